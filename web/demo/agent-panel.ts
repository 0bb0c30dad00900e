import { problemOf, type AgentStatus } from "../src";
import { element } from "./element";

const POLL_MS = 3_000;
/** By then LiveKit's webhook about a join or leave has reached the service. */
const SETTLE_MS = 700;

const STATES: Readonly<Record<string, string>> = {
  none: "none",
  creating: "requested",
  starting: "on its way",
  active: "in the room",
  idle: "waiting for you",
  unavailable: "none available",
  on_hold: "on hold: a human has taken over",
  ending: "ending",
};

/** The agent's status from the service, polled, with a countdown in between. */
export class AgentPanel {
  readonly #ask: () => Promise<AgentStatus | null>;
  #status: AgentStatus | null = null;
  #ttlTotalMs = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #polls = 0;
  readonly #onTick: () => void;

  /** `onTick` is called whenever `waitingText` may have changed. */
  constructor(ask: () => Promise<AgentStatus | null>, onTick: () => void) {
    this.#ask = ask;
    this.#onTick = onTick;
    setInterval(() => this.#showTtl(), 250);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.look();
    });
    this.#show();
  }

  /** What a person who has left wants to know. */
  get waitingText(): string {
    if (this.#status === null) return "";
    const leftMs = this.#leftMs();
    if (leftMs) return `The agent waits another ${minutes(leftMs)} for you.`;
    if (this.#status.participantCount) return "The agent stays with the others.";
    return this.#status.hasAgent
      ? "The agent waits for you."
      : "The agent has ended; you get a new one when you join.";
  }

  /** Poll soon, because something has changed, and keep polling as long as there is something to show. */
  look(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#poll(), SETTLE_MS);
  }

  async #poll(): Promise<void> {
    const poll = ++this.#polls;
    let again = !document.hidden;
    try {
      const status = await this.#ask();
      if (poll !== this.#polls) return;
      again &&= status !== null && status.state !== "none";
      this.#take(status);
    } catch (error) {
      if (poll !== this.#polls) return;
      // An expired token stays expired; the next join brings a new one.
      again &&= problemOf(error).retryable;
      // The last status is no longer reliable.
      this.#take(null);
    }
    clearTimeout(this.#timer);
    if (again) this.#timer = setTimeout(() => void this.#poll(), POLL_MS);
  }

  #take(status: AgentStatus | null): void {
    const expires = status?.ttlExpiresAt ?? null;
    if (expires && expires !== this.#status?.ttlExpiresAt)
      this.#ttlTotalMs = Date.parse(expires) - Date.now();
    this.#status = status;
    this.#show();
  }

  #show(): void {
    const status = this.#status;
    element("agent-state").textContent = status ? (STATES[status.state] ?? status.state) : "–";
    element("agent-dot").dataset.state = status?.state ?? "none";
    element("agent-dispatch").textContent = status?.dispatchId ?? "–";
    element("agent-people").textContent = String(status?.participantCount ?? "–");
    this.#showTtl();
  }

  #showTtl(): void {
    const leftMs = this.#leftMs();
    const bar = element<HTMLProgressElement>("agent-countdown");
    bar.hidden = leftMs === null;
    if (leftMs !== null) {
      bar.max = Math.max(this.#ttlTotalMs, 1);
      bar.value = leftMs;
    }
    element("agent-ttl").textContent = this.#ttlText(leftMs);
    this.#onTick();
  }

  #leftMs(): number | null {
    const expires = this.#status?.ttlExpiresAt;
    return expires ? Math.max(Date.parse(expires) - Date.now(), 0) : null;
  }

  #ttlText(leftMs: number | null): string {
    if (leftMs !== null) return minutes(leftMs);
    const sessionEnds = this.#status?.sessionEndsAt;
    if (sessionEnds) return `session ends in ${minutes(Math.max(Date.parse(sessionEnds) - Date.now(), 0))}`;
    return this.#status?.hasAgent ? "starts when you leave" : "–";
  }
}

function minutes(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
