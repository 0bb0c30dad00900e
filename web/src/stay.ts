import type { Credentials } from "./agent-service.js";
import type { RoomLink } from "./room-link.js";

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
  /** Ends the wait for the next try. */
  hurry: AbortController | null = null;
}
