"use client";

export { useAgentSession, type AgentSession, type UseAgentSessionOptions } from "./use-agent-session.js";
