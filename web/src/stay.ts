import type { Credentials } from "./agent-service.js";
import type { RoomLink } from "./room-link.js";

/** Whether a human has taken over from the agent, as the event that says so. */
export type Hold = "held" | "released";

/** By the state of the agent in an answer of the service. */
export const holdOf = (state: string | undefined): Hold => (state === "on_hold" ? "held" : "released");

/** One stay in the room, from `connect` to its end. */
export class Stay {
  readonly abort = new AbortController();
  /** The tries to join; settles soon after `abort`. */
  entering: Promise<void> = Promise.resolve();
  link: RoomLink | null = null;
  credentials: Credentials | null = null;
  /** An agent was dispatched for this stay, and the person has not been in the room with it. */
  owesAgent = false;
  /** The requested agent has been here, or was requested again because it had ended before. */
  served = false;
  hold: Hold = "released";
  /** Ends the wait for the next try. */
  hurry: AbortController | null = null;
}
