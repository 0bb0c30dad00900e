// What agents cost: one bar for each of the last 30 days, and the same in words.

import { byId, element, setText, svgElement } from "./dom.js";
import { usage } from "./service.js";

const HEIGHT = 40;
const REFRESH_MS = 60_000;

/** From the bottom of a bar to its top. */
const PARTS = [
  { name: "talked", figure: "talkedS", text: "Talked" },
  { name: "idle", figure: "idleS", text: "Idle" },
  { name: "unvisited", figure: "unvisitedS", text: "Unvisited" },
];
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });

/** A time in its largest unit: 42 s, 12 min, 3.4 h. */
export function span(seconds) {
  const short = (number) => number.toLocaleString(undefined, { maximumFractionDigits: number < 10 ? 1 : 0 });
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${short(seconds / 60)} min`;
  return `${short(seconds / 3600)} h`;
}

const total = (day) => PARTS.reduce((sum, part) => sum + day[part.figure], 0);
const dayOf = (day) => DAY.format(new Date(day.day));
const inWords = (day) => PARTS.map((part) => `${part.text.toLowerCase()} ${span(day[part.figure])}`).join(", ");

export class UsageChart {
  #days = [];
  #timer = 0;
  #isRead = false;
  #readout = element("span", { class: "readout" });
  #svg = svgElement("svg", { preserveAspectRatio: "none", role: "img" });
  #list = element("ol", { class: "usage-days", reversed: "" });
  #totals = new Map(PARTS.map((part) => [part, element("b", {}, "–")]));

  constructor() {
    const legend = [...this.#totals].map(([part, sum]) =>
      element("li", {}, element("i", { class: `swatch spent-${part.name}`, "aria-hidden": "true" }), `${part.text} `, sum),
    );
    this.#svg.addEventListener("pointermove", (event) => this.#read(event));
    this.#svg.addEventListener("pointerleave", () => this.#unread());
    byId("usage").append(
      element(
        "figure",
        { class: "card chart" },
        element("figcaption", {}, element("ul", { class: "legend" }, ...legend)),
        this.#svg,
        element("p", { class: "axis", "aria-hidden": "true" }, "30 days ago", this.#readout, "today"),
        element("details", {}, element("summary", {}, "By day"), this.#list),
      ),
    );
  }

  /** Reads the days now, and again while the page is open; a failure keeps what is shown. */
  async start() {
    this.stop();
    const timer = setInterval(() => this.#refresh(), REFRESH_MS);
    this.#timer = timer;
    await this.#refresh();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  async #refresh() {
    const timer = this.#timer;
    try {
      const { days } = await usage();
      if (timer === this.#timer) this.#draw(days);
    } catch {
      // The stream says what is wrong, and ends an open page whose session has ended.
    }
  }

  #draw(days) {
    this.#days = days;
    const highest = Math.max(1, ...days.map(total));
    this.#svg.setAttribute("viewBox", `0 0 ${days.length} ${HEIGHT}`);
    this.#svg.replaceChildren(...days.flatMap((day, slot) => bars(day, slot, highest)));
    const sums = Object.fromEntries(
      PARTS.map(({ figure }) => [figure, days.reduce((sum, day) => sum + day[figure], 0)]),
    );
    for (const [part, node] of this.#totals) setText(node, span(sums[part.figure]));
    this.#svg.setAttribute("aria-label", `What agents cost in the last ${days.length} days: ${inWords(sums)}`);
    const used = days.filter(total).reverse();
    this.#list.replaceChildren(...used.map((day) => element("li", {}, `${dayOf(day)}: ${inWords(day)}`)));
    if (!this.#isRead) this.#unread();
  }

  #read(event) {
    const box = this.#svg.getBoundingClientRect();
    const slot = Math.floor(((event.clientX - box.left) / box.width) * this.#days.length);
    const day = this.#days[Math.min(this.#days.length - 1, Math.max(0, slot))];
    this.#isRead = true;
    setText(this.#readout, day ? `${dayOf(day)}: ${inWords(day)}` : "");
  }

  #unread() {
    this.#isRead = false;
    setText(this.#readout, "");
  }
}

function bars(day, slot, highest) {
  let below = 0;
  return PARTS.map((part) => {
    const height = (day[part.figure] / highest) * HEIGHT;
    below += height;
    return svgElement("rect", { class: `spent-${part.name}`, x: slot + 0.12, width: 0.76, y: HEIGHT - below, height });
  });
}
