import { sessionKey } from "./lib/session-key";

/** Next.js calls this once, before it serves anything, and ends with the error. */
export function register(): void {
  sessionKey();
}
