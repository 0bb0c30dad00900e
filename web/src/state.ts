import type { Problem } from "./problems.js";

export type Phase =
  | "idle"
  | "requesting"
  | "connecting"
  | "waiting-for-agent"
  | "on-hold"
  | "ready"
  | "reconnecting"
  | "ended"
  | "failed";

export type Microphone = "off" | "starting" | "on" | "refused" | "missing";

export type ConnectionEvent =
  /** The person wants to join, or to request the agent again. */
  | { readonly type: "connect" }
  /** The service has an agent in the room, or on its way there. */
  | { readonly type: "granted"; readonly dispatchId: string | null; readonly reused: boolean }
  /** Joined the room, for the first time or again. */
  | { readonly type: "joined" }
  | { readonly type: "agent-ready" }
  | { readonly type: "agent-gone" }
  /** A human has taken over: no agent comes until the service releases it. */
  | { readonly type: "held" }
  | { readonly type: "released" }
  /** No agent joins, although the person waits. */
  | { readonly type: "no-agent"; readonly problem: Problem }
  /** The network to the room was lost; the connection returns by itself. */
  | { readonly type: "interrupted" }
  /** A try failed; the next one is at `retryAt`. */
  | { readonly type: "retrying"; readonly problem: Problem; readonly retryAt: number }
  /** LiveKit removed the person for a reason that rejoining would not fix. */
  | { readonly type: "dismissed"; readonly problem: Problem }
  | { readonly type: "failed"; readonly problem: Problem }
  | { readonly type: "leave" }
  /** Something to show that does not change the phase. */
  | { readonly type: "noticed"; readonly facts: Partial<Facts> };

/** What is known besides the phase. */
export interface Facts {
  readonly microphone: Microphone;
  /** LiveKit's `lk.agent.state`: listening, thinking, speaking, ... */
  readonly agentState: string | null;
  /** The browser needs a click before it plays the agent's voice. */
  readonly audioBlocked: boolean;
  /** When the agent's session ends, in milliseconds since the epoch; null if it has no longest length. */
  readonly sessionEndsAt: number | null;
  /** Whether the agent has been warned of that end; it stays so until there is another agent. */
  readonly endingSoon: boolean;
}

export interface ConnectionState extends Facts {
  readonly phase: Phase;
  readonly problem: Problem | null;
  /** When the next try begins, in milliseconds since the epoch. */
  readonly retryAt: number | null;
  readonly dispatchId: string | null;
  /** Whether the agent was there before the request; null before the answer. */
  readonly reused: boolean | null;
}

type Move = Exclude<ConnectionEvent["type"], "noticed">;

/**
 * Where each event leads. An event that is not in the table changes nothing: it comes too late, from a try
 * that was given up.
 */
export const TABLE: Readonly<Record<Phase, Readonly<Partial<Record<Move, Phase>>>>> = {
  idle: {
    connect: "requesting",
  },
  requesting: {
    granted: "connecting",
    retrying: "requesting",
    failed: "failed",
    leave: "idle",
  },
  connecting: {
    joined: "waiting-for-agent",
    retrying: "requesting",
    failed: "failed",
    leave: "idle",
  },
  "waiting-for-agent": {
    connect: "waiting-for-agent",
    granted: "waiting-for-agent",
    "agent-ready": "ready",
    "no-agent": "waiting-for-agent",
    held: "on-hold",
    interrupted: "reconnecting",
    dismissed: "ended",
    leave: "ended",
  },
  "on-hold": {
    "agent-ready": "ready",
    released: "waiting-for-agent",
    interrupted: "reconnecting",
    dismissed: "ended",
    leave: "ended",
  },
  ready: {
    "agent-gone": "waiting-for-agent",
    interrupted: "reconnecting",
    dismissed: "ended",
    leave: "ended",
  },
  reconnecting: {
    granted: "reconnecting",
    joined: "waiting-for-agent",
    retrying: "reconnecting",
    dismissed: "ended",
    failed: "failed",
    leave: "ended",
  },
  ended: {
    connect: "requesting",
  },
  failed: {
    connect: "requesting",
    leave: "idle",
  },
};

export const initialState: ConnectionState = {
  phase: "idle",
  problem: null,
  retryAt: null,
  dispatchId: null,
  reused: null,
  microphone: "off",
  agentState: null,
  audioBlocked: false,
  sessionEndsAt: null,
  endingSoon: false,
};

/** Of an agent whose session has no end, as far as is known. */
const unlimited = { sessionEndsAt: null, endingSoon: false } as const;

/** Whether the person is in the room in this phase, or returning to it. */
export function isInRoom(phase: Phase): boolean {
  return isWithoutAgent(phase) || phase === "ready" || phase === "reconnecting";
}

/** Whether the person is in the room, and no agent is. */
export function isWithoutAgent(phase: Phase): boolean {
  return phase === "waiting-for-agent" || phase === "on-hold";
}

/** Whether nothing runs in this phase; `connect` then starts again. */
export function isAtRest(phase: Phase): boolean {
  return phase === "idle" || phase === "ended" || phase === "failed";
}

/** The only place that changes the state. An event without a row returns the same object. */
export function reduce(state: ConnectionState, event: ConnectionEvent): ConnectionState {
  if (event.type === "noticed") return { ...state, ...event.facts };
  const phase = TABLE[state.phase][event.type];
  if (phase === undefined) return state;
  const next: ConnectionState = {
    ...state,
    phase,
    problem: "problem" in event ? event.problem : problemKept(state, event),
    retryAt: event.type === "retrying" ? event.retryAt : null,
  };
  if (event.type === "granted") {
    const session = event.dispatchId === state.dispatchId ? {} : unlimited;
    return { ...next, ...session, dispatchId: event.dispatchId, reused: event.reused };
  }
  if (isAtRest(phase))
    return { ...next, ...unlimited, microphone: "off", agentState: null, audioBlocked: false };
  return next;
}

/** During retries the problem stays visible until a try succeeds. */
function problemKept(state: ConnectionState, event: ConnectionEvent): Problem | null {
  return event.type === "granted" ? state.problem : null;
}
