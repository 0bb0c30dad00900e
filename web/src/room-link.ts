import type { Credentials } from "./agent-service.js";
import type { Problem } from "./problems.js";
import type { Microphone } from "./state.js";

/** A piece of conversation; a later one with the same id replaces it. */
export interface Utterance {
  readonly id: string;
  readonly from: "agent" | "me" | "other";
  /** The LiveKit identity that it came from. */
  readonly identity: string;
  readonly text: string;
  readonly final: boolean;
}

/** News between joining and leaving: `joined` first, then who is there. */
export type RoomNews =
  /** In the room, for the first time or after an interruption. */
  | { readonly type: "joined" }
  | { readonly type: "interrupted" }
  | { readonly type: "agent"; readonly ready: boolean; readonly state: string | null }
  /** Disconnected for good; `problem` is retryable if joining again may help. */
  | { readonly type: "closed"; readonly problem: Problem }
  /** Disconnected, because something else on this page left the room. */
  | { readonly type: "left" }
  | { readonly type: "audio"; readonly blocked: boolean }
  /** `wanted` if something else on this page, such as LiveKit's own buttons, turned it on or off. */
  | { readonly type: "microphone"; readonly state: Microphone; readonly wanted?: boolean }
  | { readonly type: "utterance"; readonly utterance: Utterance };

/** One stay in one room. `RoomLinkFactory` makes it; it is joined once and left once. */
export interface RoomLink {
  /** Rejects with a ProblemError. */
  join(credentials: Credentials): Promise<void>;
  /** Also ends a join in progress. */
  leave(): Promise<void>;
  /** Rejects with a ProblemError: microphone-refused or microphone-missing. */
  setMicrophone(on: boolean): Promise<void>;
  /** Resolves to the utterance as others see it. */
  sendText(text: string): Promise<Utterance>;
  /** Call this from a click. */
  startAudio(): Promise<void>;
}

export type RoomLinkFactory = (onNews: (news: RoomNews) => void) => RoomLink;
