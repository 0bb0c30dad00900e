/** Where the pages get their tokens, as the address says: `?agent=...&endpoint=...`. */
import { TokenSource } from "livekit-client";

const parameters = new URLSearchParams(location.search);
const elsewhere = parameters.get("endpoint");

export const agentName = parameters.get("agent")!;

/** Cookies go to another origin only where the page asks for it. */
export const tokenSource = elsewhere
  ? TokenSource.endpoint(elsewhere, { credentials: "include" })
  : TokenSource.endpoint("/api/livekit/token");
