import type { Credentials } from "./agent-service.js";
import type { RoomLink } from "./room-link.js";

/** One wish to be in the room, from `connect` to whatever ends it. */
export class Stay {
  readonly abort = new AbortController();
  /** The tries to get in; settles soon after `abort`. */
  entering: Promise<void> = Promise.resolve();
  link: RoomLink | null = null;
  credentials: Credentials | null = null;
  /** An agent was dispatched for us, and we have not been in the room with it. */
  owesAgent = false;
  /** What was asked for has been here, or was asked for again because it had ended before it was. */
  served = false;
  /** Ends the wait for the next try. */
  hurry: AbortController | null = null;
}
