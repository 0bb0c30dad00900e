"use client";

export { type Livekit, type LivekitAudio, type LivekitError } from "./livekit.js";
export { useLivekit, type UseLivekitOptions } from "./use-livekit.js";
