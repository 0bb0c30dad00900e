// The table of rooms: a row for each agent, made once and then only brought up to date.

import { ago, badge, byId, countdown, element, moment, people, setBadge, setText } from "./dom.js";

/** More rows than this help nobody and freeze the page. */
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
      // Only what is out of place is moved: the others keep focus and scroll.
      if (body.children[index] !== row.node) body.insertBefore(row.node, body.children[index] ?? null);
    });
    this.tick();
    this.#sayHowMany(found.length, view, text);
  }

  /** What changes with time alone. */
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

  #sayHowMany(found, view, text) {
    const { total } = this.#roster.tally();
    const all = view === "live" && !text.trim() ? Math.max(found, total) : found;
    const shown = this.#shown.length;
    setText(byId("shown"), shown < all ? `showing ${shown} of ${all.toLocaleString()}` : `${shown}`);
    byId("rooms").hidden = !shown;
    byId("empty").hidden = Boolean(shown);
    if (shown) return;
    const filtered = Boolean(text.trim()) || view !== "live";
    setText(byId("empty-title"), filtered ? "Nothing matches." : "No agents right now.");
    setText(
      byId("empty-advice"),
      filtered
        ? "Try another state, or fewer letters."
        : "One appears here as soon as somebody asks for it: POST /api/livekit/dispatch-agent with a room’s name, or join through /api/livekit/token. Nothing to do here until then.",
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
    setText(this.note, remark(agent));
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

/** What the state alone does not say. */
function remark(agent) {
  if (agent.state === "ended") return agent.endReason.replaceAll("_", " ");
  if (agent.cleanupFailures) return `${agent.cleanupFailures} failed removals`;
  if (agent.attempt > 1) return `try ${agent.attempt}`;
  return "";
}

/** Cells say what they are: on a phone there is no head above them. */
function cell(label, ...children) {
  return element("td", { role: "cell", "data-label": label }, ...children);
}
