// The client of the service: session, calls and the stream.

/** An error of the service, or a call without an answer (`status` 0). */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(`/dashboard/${path}`, {
      method,
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body ? JSON.stringify(body) : undefined,
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new Problem(0, "The service is not reachable.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer.message ?? `The service answered ${response.status}.`);
  return answer;
}

export const session = () => call("GET", "session");
export const signIn = (apiKey) => call("POST", "session", { apiKey });
export const signOut = () => call("DELETE", "session");
export const timeline = (id) => call("GET", `agents/${encodeURIComponent(id)}`);
export const usage = () => call("GET", "usage");
export const endAgent = (roomName, agentName) => call("POST", "agents/end", { roomName, agentName });

/** The service sends a beat every two seconds: after this time without one, the view is out of date. */
const SILENCE_MS = 7000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/**
 * Follows the stream and reopens it when it breaks, until it is stopped or the session has ended.
 *
 * `on` has: snapshot, changes, beat (with the message), live(), lost(), signedOut().
 */
export class Stream {
  #on;
  #source = null;
  #timer = 0;
  #wait = FIRST_WAIT_MS;

  constructor(on) {
    this.#on = on;
  }

  start() {
    this.stop();
    this.#open();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    const source = new EventSource("/dashboard/stream");
    this.#source = source;
    for (const name of ["snapshot", "changes", "beat"]) {
      source.addEventListener(name, (event) => {
        this.#restartTimer();
        if (name === "snapshot") {
          this.#wait = FIRST_WAIT_MS;
          this.#on.live();
        }
        this.#on[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => this.#reconnect());
    this.#restartTimer();
  }

  #restartTimer() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#reconnect(), SILENCE_MS);
  }

  #reconnect() {
    this.stop();
    this.#on.lost();
    this.#timer = setTimeout(() => this.#reopen(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  async #reopen() {
    const timer = this.#timer;
    try {
      const { signedIn } = await session();
      if (timer !== this.#timer) return;
      if (signedIn) this.#open();
      else this.#on.signedOut();
    } catch {
      if (timer === this.#timer) this.#reconnect();
    }
  }
}
