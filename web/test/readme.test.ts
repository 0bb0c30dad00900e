import { describe, expect, it } from "vitest";
import readme from "../README.md?raw";
import type { UseAgentSessionOptions } from "../src/components-react";
import type { Livekit, LivekitAudio, UseLivekitOptions } from "../src/react";

/** The names in the first column of a table, without the arguments of a method. */
function documented(table: string): string[] {
  const printed = readme.split(`<!-- ${table} -->`)[1]?.split(`<!-- /${table} -->`)[0] ?? "";
  return [...printed.matchAll(/^\| `([\w.]+)/gm)].map((row) => row[1] ?? "");
}

// The compiler ensures that each of these has every name and no other.
const takes: Record<keyof UseLivekitOptions, true> = {
  roomName: true,
  identity: true,
  displayName: true,
  agentName: true,
  serviceUrl: true,
  fetchCredentials: true,
  microphone: true,
  autoConnect: true,
  messages: true,
  backoff: true,
  createLink: true,
};
const returns: Record<keyof Omit<Livekit, "audio"> | `audio.${keyof LivekitAudio}`, true> = {
  state: true,
  status: true,
  error: true,
  agentState: true,
  dispatchId: true,
  reused: true,
  sessionEndsAt: true,
  endingSoon: true,
  "audio.microphone": true,
  "audio.setMicrophone": true,
  "audio.blocked": true,
  "audio.start": true,
  conversation: true,
  roomName: true,
  identity: true,
  connect: true,
  disconnect: true,
  retry: true,
  endAgent: true,
  sendText: true,
  connection: true,
};
const sessionTakes: Record<keyof UseAgentSessionOptions, true> = {
  roomName: true,
  participantIdentity: true,
  participantName: true,
  participantMetadata: true,
  participantAttributes: true,
  agentName: true,
  serviceUrl: true,
  autoConnect: true,
  microphone: true,
  messages: true,
  backoff: true,
  agentConnectTimeoutMilliseconds: true,
  room: true,
};

describe("the README's tables", () => {
  it.each([
    ["useLivekit takes", takes],
    ["useLivekit returns", returns],
    ["useAgentSession takes", sessionTakes],
  ])("have all that %s and nothing else", (table, names) => {
    expect(documented(table)).toEqual(Object.keys(names));
  });
});
