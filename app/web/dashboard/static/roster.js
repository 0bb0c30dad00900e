// The agents that the page knows: search, order and totals, by the service's clock.

/** How long an ended agent stays among the live ones, so that its end is visible. */
const LINGER_MS = 15_000;

const COLLATOR = new Intl.Collator(undefined, { numeric: true });
/** Sorts after every TTL; unlike Infinity, two of them can be subtracted. */
const LATE = Number.MAX_SAFE_INTEGER;
const PENDING = ["creating", "starting"];
/** States that need attention come first. */
const RANK = { unavailable: 0, on_hold: 1, creating: 2, starting: 2, active: 3, idle: 4, ending: 5, ended: 6 };

export class Roster {
  #agents = new Map();
  #maxLive = Infinity;
  #maxEnded = Infinity;
  #offset = 0;
  counts = {};

  /** Milliseconds since 1970 by the service's clock. */
  now() {
    return performance.now() + this.#offset;
  }

  /** The message that was least long on its way has the largest offset: a later one would set countdowns back. */
  setTime(at) {
    this.#offset = Math.max(this.#offset, at - performance.now());
  }

  reset({ at, agents, maxLive, maxEnded }) {
    // Another replica, or a service whose clock was set back, may have sent it.
    this.#offset = at - performance.now();
    this.#maxLive = maxLive;
    this.#maxEnded = maxEnded;
    this.#agents = new Map(agents.map((agent) => [agent.id, agent]));
  }

  change({ at, agents }) {
    this.setTime(at);
    for (const agent of agents) {
      const known = this.#agents.get(agent.id);
      if (!known || known.version <= agent.version) this.#agents.set(agent.id, agent);
    }
    const ended = this.#in("ended");
    if (ended.length > this.#maxEnded) {
      ended.sort((one, other) => other.endedAt - one.endedAt);
      for (const agent of ended.slice(this.#maxEnded)) this.#agents.delete(agent.id);
    }
  }

  get(id) {
    return this.#agents.get(id);
  }

  /** The agents of `view` that match `text`, most important first. */
  find(view, text) {
    const wanted = text.trim().toLowerCase();
    const found = [...this.#agents.values()].filter((agent) => this.#isIn(agent, view) && matches(agent, wanted));
    return found.sort(compare);
  }

  /** The number of agents by state; from the service's counts if it has more agents than the page. */
  totals() {
    const counted = Object.values(this.counts).reduce((sum, count) => sum + count, 0);
    if (counted >= this.#maxLive) return { ...this.counts, people: null, total: counted };
    const totals = { people: 0, total: 0 };
    const rooms = new Map();
    for (const agent of this.#agents.values()) {
      if (agent.state === "ended") continue;
      totals[agent.state] = (totals[agent.state] ?? 0) + 1;
      totals.total += 1;
      // Two agents in one room have the same people.
      rooms.set(agent.room, Math.max(rooms.get(agent.room) ?? 0, agent.people));
    }
    for (const count of rooms.values()) totals.people += count;
    return totals;
  }

  #in(state) {
    return [...this.#agents.values()].filter((agent) => agent.state === state);
  }

  #isIn(agent, view) {
    if (view === "live") return agent.state !== "ended" || this.now() - agent.endedAt < LINGER_MS;
    if (view === "pending") return PENDING.includes(agent.state);
    return agent.state === view;
  }
}

function matches(agent, wanted) {
  if (!wanted) return true;
  const texts = [agent.room, agent.agent, agent.dispatchId, agent.agentIdentity];
  return texts.some((text) => text?.toLowerCase().includes(wanted));
}

function compare(one, other) {
  return (
    RANK[one.state] - RANK[other.state] ||
    (one.state === "ended" ? other.endedAt - one.endedAt : 0) ||
    (one.ttlExpiresAt ?? LATE) - (other.ttlExpiresAt ?? LATE) ||
    COLLATOR.compare(one.room, other.room) ||
    COLLATOR.compare(one.agent, other.agent)
  );
}
