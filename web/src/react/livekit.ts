import type { AgentConnection } from "../agent-connection.js";
import type { Message, Messages } from "../messages.js";
import type { ProblemCode } from "../problems.js";
import type { Utterance } from "../room-link.js";
import type { ConnectionState, Microphone, Phase } from "../state.js";

/** What is wrong: a sentence for the person and a code for the developer. */
export interface LivekitError extends Message {
  readonly code: ProblemCode;
  /** When the next automatic retry begins, in ms since the epoch; `retry()` does not wait for it. */
  readonly retryAt: number | null;
}

/** State and actions for a component; the README has the states and the errors. */
export interface Livekit {
  readonly state: Phase;
  /** The state in words. */
  readonly status: string;
  readonly error: LivekitError | null;
  /** LiveKit's `lk.agent.state`: listening, thinking, speaking, ... */
  readonly agentState: string | null;
  readonly dispatchId: string | null;
  /** Whether the agent was there before this page requested it. */
  readonly reused: boolean | null;
  /** When the agent is ended, in ms since the epoch; null if its session has no longest length. */
  readonly sessionEndsAt: number | null;
  /** Whether that is soon: the agent has been warned. */
  readonly endingSoon: boolean;
  readonly audio: LivekitAudio;
  /** What was said and written since the component was mounted; empty if LiveKit's components handle it. */
  readonly conversation: readonly Utterance[];
  readonly roomName: string;
  readonly identity: string;
  connect(): void;
  /** Leave; the agent stays for its TTL. */
  disconnect(): Promise<void>;
  /** Retry now, whatever went wrong. */
  retry(): void;
  /** End the agent for everybody, and leave. Rejects with a ProblemError. */
  endAgent(): Promise<void>;
  /** Rejects when it could not be sent. */
  sendText(text: string): Promise<void>;
  /** The connection below. */
  readonly connection: AgentConnection;
}

export interface LivekitAudio {
  readonly microphone: Microphone;
  setMicrophone(on: boolean): Promise<void>;
  /** The browser plays nothing before `start()` is called from a click. */
  readonly blocked: boolean;
  start(): Promise<void>;
}

type WithoutNames = Omit<Livekit, "roomName" | "identity">;

/** The current state of a connection, in the sentences of `messages`. */
export function livekitOf(
  connection: AgentConnection,
  state: ConnectionState,
  conversation: readonly Utterance[],
  messages: Messages,
): WithoutNames {
  const code = problemShown(state);
  return {
    state: state.phase,
    status: messages.phases[state.phase],
    error: code && { code, ...messages.problems[code], retryAt: state.retryAt },
    agentState: state.agentState,
    dispatchId: state.dispatchId,
    reused: state.reused,
    sessionEndsAt: state.sessionEndsAt,
    endingSoon: state.endingSoon,
    audio: {
      microphone: state.microphone,
      setMicrophone: (on) => connection.setMicrophone(on),
      blocked: state.audioBlocked,
      start: () => connection.startAudio(),
    },
    conversation,
    connect: () => connection.connect(),
    disconnect: () => connection.disconnect(),
    retry: () => {
      if (!state.problem && code) void connection.setMicrophone(true);
      else connection.connect();
    },
    endAgent: () => connection.endAgent(),
    sendText: (text) => connection.sendText(text),
    connection,
  };
}

/** A room works without a microphone, so a problem of the connection comes first. */
function problemShown({ problem, microphone }: ConnectionState): ProblemCode | null {
  if (problem) return problem.code;
  if (microphone === "refused") return "microphone-refused";
  return microphone === "missing" ? "microphone-missing" : null;
}
