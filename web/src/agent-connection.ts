import type { AgentDesk, AgentStatus, Credentials } from "./agent-service.js";
import { watchForAgent } from "./agent-watch.js";
import { defaultBackoff, delayAfter, type Backoff } from "./backoff.js";
import { switchMicrophone } from "./microphone.js";
import { Ongoing } from "./ongoing.js";
import { problemOf } from "./problems.js";
import type { RoomLink, RoomLinkFactory, RoomNews, Utterance } from "./room-link.js";
import { watchSession } from "./session-watch.js";
import { initialState, isAtRest, isWithoutAgent, reduce } from "./state.js";
import type { ConnectionEvent, ConnectionState } from "./state.js";
import { holdOf, Stay } from "./stay.js";
import { Subscribers } from "./subscribers.js";
import { realSurroundings, type Surroundings } from "./surroundings.js";

export interface AgentConnectionOptions {
  readonly desk: AgentDesk;
  readonly fetchCredentials: (signal: AbortSignal) => Promise<Credentials>;
  readonly createLink: RoomLinkFactory;
  readonly microphone?: boolean;
  readonly backoff?: Backoff;
  /** How often the service is asked for the agent's status. */
  readonly watchMs?: number;
  /** After this long without an agent the person is informed, whatever the service reports. */
  readonly patienceMs?: number;
  readonly surroundings?: Surroundings;
}

const WATCH_MS = 3_000;

/**
 * Keeps one person in one room with one agent: requests the agent from the service, joins, waits for it,
 * reconnects after a lost network, and undoes unfinished steps on `disconnect()`.
 *
 * `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes; snapshots are immutable.
 */
export class AgentConnection {
  readonly #options: AgentConnectionOptions;
  readonly #backoff: Backoff;
  readonly #world: Surroundings;
  readonly #listeners = new Subscribers<void>();
  readonly #hearers = new Subscribers<Utterance>();
  #state: ConnectionState = initialState;
  #stay: Stay | null = null;
  /** The cleanup of an earlier stay; the next stay begins after it. */
  #undoing: Promise<void> = Promise.resolve();
  #lastToken: string | null = null;
  #microphoneWanted: boolean;
  /** Runs while this connection is in the room without an agent; begins anew with and after a hold. */
  readonly #wait = new Ongoing((signal) => this.#watchForAgent(signal));
  readonly #session = new Ongoing((signal) => this.#watchSession(signal));

  constructor(options: AgentConnectionOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? defaultBackoff;
    this.#world = options.surroundings ?? realSurroundings;
    this.#microphoneWanted = options.microphone ?? false;
  }

  readonly subscribe = (listener: () => void): (() => void) => this.#listeners.add(listener);

  readonly getSnapshot = (): ConnectionState => this.#state;

  /** Subscribe to what is said in the room; returns the function that unsubscribes. */
  readonly onUtterance = (hearer: (utterance: Utterance) => void): (() => void) => this.#hearers.add(hearer);

  /** Connect; while connecting, retry at once; while waiting for an agent, request it again. */
  connect(): void {
    if (isAtRest(this.#state.phase)) {
      this.#apply({ type: "connect" });
      this.#enter();
    } else if (this.#state.phase === "waiting-for-agent" && this.#stay) {
      this.#apply({ type: "connect" });
      void this.#askAgain(this.#stay);
    } else {
      this.#stay?.hurry?.abort();
    }
  }

  /** Leave, at any point; resolves when nothing of this stay is left but the agent's TTL. */
  async disconnect(): Promise<void> {
    this.#end({ type: "leave" });
    await this.#undoing;
  }

  /** End the agent for everybody, and leave. Rejects with a ProblemError, and then the person stays in. */
  async endAgent(): Promise<void> {
    const token = this.#stay?.credentials?.participantToken;
    if (token) await this.#options.desk.endAgent(token);
    await this.disconnect();
  }

  /** What the service knows about the agent; null before the first credentials for the room. */
  async agentStatus(): Promise<AgentStatus | null> {
    return this.#lastToken ? await this.#options.desk.status(this.#lastToken) : null;
  }

  async setMicrophone(on: boolean): Promise<void> {
    this.#microphoneWanted = on;
    const link = this.#stay?.link;
    if (link) await this.#switchMicrophone(link, on);
  }

  /** Send a text. Rejects when it could not be sent. */
  async sendText(text: string): Promise<void> {
    const link = this.#stay?.link;
    if (!link) throw new Error("not connected to a room");
    this.#hear(await link.sendText(text));
  }

  /** Call this from a click when `audioBlocked`. */
  async startAudio(): Promise<void> {
    await this.#stay?.link?.startAudio();
  }

  #enter(): void {
    const stay = new Stay();
    this.#stay = stay;
    stay.entering = this.#undoing.then(() => this.#tryToEnter(stay));
  }

  /** Retries credentials, agent and room until joined, given up, or aborted. */
  async #tryToEnter(stay: Stay): Promise<void> {
    const { signal } = stay.abort;
    for (let tried = 1; !signal.aborted; tried++) {
      try {
        return await this.#enterOnce(stay);
      } catch (error) {
        if (signal.aborted) return;
        const problem = problemOf(error);
        const delay = problem.retryable
          ? delayAfter(tried, problem.retryAfterMs, this.#backoff, this.#world.random())
          : null;
        if (delay === null) return this.#end({ type: "failed", problem });
        this.#apply({ type: "retrying", problem, retryAt: this.#world.now() + delay });
        await this.#pause(delay, stay);
      }
    }
  }

  /** Waits first: LiveKit may be restarting, or the page may be closing. */
  async #comeBack(stay: Stay): Promise<void> {
    await this.#pause(this.#backoff.firstMs, stay);
    await this.#tryToEnter(stay);
  }

  async #pause(ms: number, stay: Stay): Promise<void> {
    stay.hurry = new AbortController();
    await this.#world.sleep(ms, AbortSignal.any([stay.abort.signal, stay.hurry.signal]));
    stay.hurry = null;
  }

  async #enterOnce(stay: Stay): Promise<void> {
    const { signal } = stay.abort;
    const credentials = await this.#options.fetchCredentials(signal);
    if (signal.aborted) return;
    stay.credentials = credentials;
    this.#lastToken = credentials.participantToken;
    // Never aborted: without the answer, the dispatch could not be given back. On hold there is none.
    const granted = await this.#options.desk.requestAgent(credentials.participantToken);
    stay.hold = holdOf(granted.state);
    stay.owesAgent ||= !granted.reused && stay.hold === "released";
    if (signal.aborted) return;
    this.#apply({ type: "granted", dispatchId: granted.dispatchId, reused: granted.reused });
    const link = this.#options.createLink((news) => {
      // News of an abandoned link no longer concerns this connection.
      if (this.#stay === stay && stay.link === link) this.#take(news, stay, link);
    });
    stay.link = link;
    try {
      await link.join(credentials);
    } catch (error) {
      stay.link = null;
      throw error;
    }
  }

  #take(news: RoomNews, stay: Stay, link: RoomLink): void {
    switch (news.type) {
      case "joined":
        stay.owesAgent = false;
        this.#apply({ type: "joined" }, { type: stay.hold });
        if (this.#microphoneWanted) void this.#switchMicrophone(link, true);
        break;
      case "agent":
        stay.served ||= news.ready;
        this.#apply(
          { type: "noticed", facts: { agentState: news.state } },
          { type: news.ready ? "agent-ready" : "agent-gone" },
        );
        break;
      case "interrupted":
        this.#apply({ type: "interrupted" });
        break;
      case "closed":
        if (news.problem.retryable) {
          stay.link = null;
          this.#apply({ type: "interrupted" });
          stay.entering = this.#comeBack(stay);
        } else {
          this.#end({ type: "dismissed", problem: news.problem });
        }
        break;
      case "left":
        this.#end({ type: "leave" });
        break;
      case "audio":
        this.#apply({ type: "noticed", facts: { audioBlocked: news.blocked } });
        break;
      case "microphone":
        this.#microphoneWanted = news.wanted ?? this.#microphoneWanted;
        this.#apply({ type: "noticed", facts: { microphone: news.state } });
        break;
      case "utterance":
        this.#hear(news.utterance);
    }
  }

  #switchMicrophone(link: RoomLink, on: boolean): Promise<void> {
    return switchMicrophone(link, on, (microphone) => {
      if (this.#stay?.link === link) this.#apply({ type: "noticed", facts: { microphone } });
    });
  }

  /** The service retries by itself; a person's request makes it retry at once. */
  async #askAgain(stay: Stay): Promise<void> {
    try {
      const credentials = await this.#options.fetchCredentials(stay.abort.signal);
      stay.credentials = credentials;
      this.#lastToken = credentials.participantToken;
      const granted = await this.#options.desk.requestAgent(credentials.participantToken);
      stay.hold = holdOf(granted.state);
      if (this.#stay === stay) this.#apply({ type: "granted", ...granted }, { type: stay.hold });
    } catch (error) {
      if (this.#stay === stay) this.#apply({ type: "no-agent", problem: problemOf(error) });
    }
  }

  async #awaitAgent(stay: Stay, signal: AbortSignal): Promise<void> {
    try {
      const granted = await this.#options.desk.awaitAgent(stay.credentials?.participantToken ?? "", signal);
      // It answers for the agent of the first request, or for one that has taken its place.
      const isAnother = granted.dispatchId !== this.#state.dispatchId;
      if (isAnother && !signal.aborted) this.#apply({ type: "granted", ...granted });
    } catch (error) {
      const problem = problemOf(error);
      // Any other problem is one of this call, and tells nothing about the agent.
      if (!signal.aborted && problem.code === "no-agent") this.#apply({ type: "no-agent", problem });
    }
  }

  #watchForAgent(signal: AbortSignal): void {
    const { watchMs = WATCH_MS, patienceMs = 20_000 } = this.#options;
    void watchForAgent({
      world: this.#world,
      signal,
      everyMs: watchMs,
      patienceMs,
      status: () => this.agentStatus(),
      awaitAgent: () => {
        const stay = this.#stay;
        // One that has been here may have finished: only the person brings it back. On hold nobody comes.
        return stay && !stay.served && stay.hold === "released" ? this.#awaitAgent(stay, signal) : null;
      },
      onEnded: async () => {
        const stay = this.#stay;
        if (!stay || stay.served) return false;
        // The person it was dispatched for has given it back without knowing about this one.
        stay.served = true;
        await this.#askAgain(stay);
        return true;
      },
      onHopeless: (state) => {
        const { problem, endingSoon, sessionEndsAt } = this.#state;
        if (problem) return;
        const isOver = endingSoon || (sessionEndsAt !== null && this.#world.now() >= sessionEndsAt);
        const code = isOver && state === "none" ? "session-over" : "no-agent";
        this.#apply({ type: "no-agent", problem: { code, retryable: true } });
      },
      onHold: (hold) => {
        if (this.#stay) this.#stay.hold = hold;
        this.#apply({ type: hold });
      },
    });
  }

  #watchSession(signal: AbortSignal): void {
    void watchSession({
      world: this.#world,
      signal,
      everyMs: this.#options.watchMs ?? WATCH_MS,
      status: () => this.agentStatus(),
      onEnd: (sessionEndsAt, endingSoon) =>
        this.#apply({ type: "noticed", facts: { sessionEndsAt, endingSoon } }),
    });
  }

  #end(event: ConnectionEvent): void {
    const stay = this.#stay;
    this.#stay = null;
    if (stay) {
      stay.abort.abort();
      this.#undoing = this.#undo(stay);
    }
    this.#apply(event);
  }

  async #undo(stay: Stay): Promise<void> {
    await stay.link?.leave().catch(() => undefined);
    await stay.entering;
    // If the join was in progress, the link was told to leave, and its failure does not matter.
    if (stay.owesAgent && stay.credentials) {
      // If this fails, the agent's TTL ends it.
      await this.#options.desk.giveBack(stay.credentials.participantToken).catch(() => undefined);
    }
  }

  #apply(...events: ConnectionEvent[]): void {
    const before = this.#state;
    this.#state = events.reduce(reduce, before);
    if (this.#state === before) return;
    const { phase } = this.#state;
    if (phase !== before.phase) this.#wait.while(false);
    this.#wait.while(isWithoutAgent(phase));
    this.#session.while(phase === "ready");
    this.#listeners.tell();
  }

  #hear(utterance: Utterance): void {
    this.#hearers.tell(utterance);
  }
}
