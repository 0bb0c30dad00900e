"use client";

export type { Livekit, LivekitAudio, LivekitError } from "./livekit.js";
export { useLivekit, type UseLivekitOptions } from "./use-livekit.js";
