// The table of rooms: one row for each agent, created once and then updated.

import { ago, badge, byId, cell, countdown, element, moment, people, setBadge, setText } from "./dom.js";

/** More rows than this are not useful and freeze the page. */
const MAX_ROWS = 200;

export class Rooms {
  #roster;
  #on;
  #rows = new Map();
  #shown = [];

  /** `on` has: open(agent), end(agent). */
  constructor(roster, on) {
    this.#roster = roster;
    this.#on = on;
    byId("search").addEventListener("input", () => this.render());
    byId("state").addEventListener("change", () => this.render());
  }

  render() {
    const text = byId("search").value;
    const view = byId("state").value;
    const found = this.#roster.find(view, text);
    this.#shown = found.slice(0, MAX_ROWS);
    const ids = new Set(this.#shown.map((agent) => agent.id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      this.#rows.delete(id);
    }
    const body = byId("rows");
    this.#shown.forEach((agent, index) => {
      const row = this.#row(agent);
      row.update(agent);
      // Only misplaced rows are moved: the others keep focus and scroll position.
      if (body.children[index] !== row.node) body.insertBefore(row.node, body.children[index] ?? null);
    });
    this.tick();
    this.#showCount(found.length, view, text);
  }

  /** Updates the times. */
  tick() {
    const now = this.#roster.now();
    for (const agent of this.#shown) this.#rows.get(agent.id).tick(agent, now);
  }

  #row(agent) {
    const known = this.#rows.get(agent.id);
    if (known) return known;
    const row = new Row(agent, this.#roster, this.#on);
    this.#rows.set(agent.id, row);
    return row;
  }

  #showCount(found, view, text) {
    const { total } = this.#roster.totals();
    const all = view === "live" && !text.trim() ? Math.max(found, total) : found;
    const shown = this.#shown.length;
    setText(byId("shown"), shown < all ? `showing ${shown} of ${all.toLocaleString()}` : `${shown}`);
    byId("rooms").hidden = !shown;
    byId("empty").hidden = Boolean(shown);
    if (shown) return;
    const filtered = Boolean(text.trim()) || view !== "live";
    setText(byId("empty-title"), filtered ? "No agent matches." : "No agents right now.");
    setText(
      byId("empty-advice"),
      filtered
        ? "Try another state or a shorter search."
        : "An agent appears here as soon as one is requested: POST /api/livekit/dispatch-agent with a room’s name, or join through /api/livekit/token.",
    );
  }
}

class Row {
  constructor(agent, roster, on) {
    const current = () => roster.get(agent.id) ?? agent;
    this.open = element("button", { type: "button", class: "link" }, agent.room);
    this.open.addEventListener("click", () => on.open(current()));
    this.badge = badge(agent.state);
    this.note = element("small", {});
    this.people = element("span", {});
    this.left = element("span", { class: "left" });
    this.bar = element("progress", { "aria-hidden": "true" });
    this.activity = element("span", {});
    this.end = element("button", { type: "button", class: "danger small" }, "End");
    this.end.setAttribute("aria-label", `End the agent ${agent.agent} in ${agent.room}`);
    this.end.addEventListener("click", () => on.end(current()));
    this.node = element(
      "tr",
      { role: "row" },
      cell("Room", this.open, element("small", {}, agent.agent)),
      cell("State", this.badge, this.note),
      cell("People", this.people),
      cell("TTL", this.left, this.bar),
      cell("Last activity", this.activity),
      cell("", this.end),
    );
    this.node.dataset.id = agent.id;
  }

  update(agent) {
    setBadge(this.badge, agent.state);
    this.node.dataset.state = agent.state;
    setText(this.note, details(agent));
    setText(this.people, String(agent.people));
    this.people.setAttribute("aria-label", people(agent.people));
    this.end.hidden = agent.state === "ended";
    this.activity.title = moment(agent.lastActivityAt);
  }

  tick(agent, now) {
    const runs = agent.ttlExpiresAt !== null && agent.state !== "ended" && agent.state !== "ending";
    this.bar.hidden = !runs;
    if (runs) {
      const left = Math.max(0, agent.ttlExpiresAt - now);
      setText(this.left, countdown(left));
      this.bar.max = Math.max(1, agent.ttlExpiresAt - agent.lastActivityAt);
      this.bar.value = left;
    } else {
      setText(this.left, "–");
    }
    setText(this.activity, ago(now - (agent.endedAt ?? agent.lastActivityAt)));
  }
}

/** Details that the state does not show. */
function details(agent) {
  if (agent.state === "ended") return agent.endReason.replaceAll("_", " ");
  if (agent.cleanupFailures) return `${agent.cleanupFailures} failed removals`;
  if (agent.attempt > 1) return `attempt ${agent.attempt}`;
  return "";
}
