// The timeline of one dispatch: its events with their times and reasons.

import { badge, byId, element, iso, moment, people, setText, timeOfDay } from "./dom.js";
import { timeline } from "./service.js";

export class Timeline {
  #dialog = byId("timeline");
  #agent = null;
  #before = null;
  #asked = 0;

  /** `on` has: end(agent), failed(problem). */
  constructor(on) {
    this.on = on;
    byId("timeline-close").addEventListener("click", () => this.close());
    byId("timeline-end").addEventListener("click", () => on.end(this.#agent));
    byId("timeline-before").addEventListener("click", () => this.open({ id: this.#before }));
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.close();
    });
  }

  async open(agent) {
    this.#agent = agent;
    if (await this.#load(agent.id)) {
      if (!this.#dialog.open) this.#dialog.showModal();
      byId("timeline-body").scrollTop = 0;
    }
  }

  close() {
    this.#dialog.close();
  }

  /** Reloads the timeline if its agent is among the changed ones. */
  async changed(agents) {
    if (this.#dialog.open && agents.some((agent) => agent.id === this.#agent.id)) await this.#load(this.#agent.id);
  }

  async #load(id) {
    this.#asked += 1;
    const asked = this.#asked;
    try {
      const found = await timeline(id);
      if (asked !== this.#asked) return false;
      this.#show(found);
      return true;
    } catch (problem) {
      if (asked === this.#asked) this.on.failed(problem);
      return false;
    }
  }

  #show({ agent, succeeds, endReason, entries }) {
    this.#agent = agent;
    this.#before = succeeds;
    setText(byId("timeline-title"), agent.room);
    byId("timeline-body").replaceChildren(facts(agent, endReason), lines(entries));
    byId("timeline-before").hidden = !succeeds;
    byId("timeline-end").hidden = agent.state === "ended";
  }
}

function facts(agent, endReason) {
  const rows = [
    ["State", badge(agent.state)],
    ["Ended because", endReason],
    ["People", agent.state === "ended" ? null : people(agent.people)],
    ["Agent", agent.agent],
    ["Dispatch", agent.dispatchId ?? "none in LiveKit"],
    ["In the room as", agent.agentIdentity],
    ["Since", moment(agent.createdAt)],
  ];
  const shown = rows.filter(([, fact]) => fact !== null);
  return element(
    "dl",
    { class: "facts" },
    ...shown.map(([name, fact]) => element("div", {}, element("dt", {}, name), element("dd", {}, fact))),
  );
}

function lines(entries) {
  const ordered = entries.map((entry, index) => line(entry, entries[index - 1]));
  return element("ol", { class: "lines", "aria-label": "Timeline, newest first" }, ...ordered.reverse());
}

function line(entry, before) {
  const time = element("time", { datetime: iso(entry.at), title: moment(entry.at) }, timeOfDay(entry.at));
  const moved = entry.fromState !== entry.toState;
  const changed = moved
    ? element("p", { class: "moved" }, badge(entry.toState), element("span", {}, entry.meaning))
    : null;
  const crowd = before && before.people !== entry.people ? ` · ${people(entry.people)} in` : "";
  return element(
    "li",
    { "data-state": entry.toState },
    element("p", { class: "when" }, time, element("code", {}, entry.event), crowd),
    element("p", { class: "what" }, entry.what),
    changed,
  );
}
