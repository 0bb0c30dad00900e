// Small charts of the last hour, one bar for each minute.

import { byId, element, setText, svgElement, timeOfDay } from "./dom.js";

const MINUTES = 60;
const MINUTE_MS = 60_000;
const HEIGHT = 40;

const sum = (minutes, figure) => minutes.reduce((total, minute) => total + minute[figure], 0);
const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");
const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** A bar shows `value`, with its part `worse` in another colour; `head` summarises the hour. */
const CHARTS = [
  {
    title: "Agents dispatched",
    value: (minute) => minute.created,
    head: (minutes) => plural(sum(minutes, "created"), "agent", "agents"),
  },
  {
    title: "Reuse rate",
    value: (minute) => {
      const calls = minute.fresh + minute.reused;
      return calls ? (100 * minute.reused) / calls : null;
    },
    top: 100,
    unit: " %",
    head: (minutes) => percent(sum(minutes, "reused"), sum(minutes, "reused") + sum(minutes, "fresh")),
  },
  {
    title: "Replaced",
    value: (minute) => minute.replaced,
    head: (minutes) => plural(sum(minutes, "replaced"), "agent", "agents"),
  },
  {
    title: "Cleanups",
    value: (minute) => minute.cleanups + minute.cleanupFailures,
    worse: (minute) => minute.cleanupFailures,
    worseName: "failed",
    head: (minutes) => {
      const failed = sum(minutes, "cleanupFailures");
      return `${sum(minutes, "cleanups").toLocaleString()} done${failed ? `, ${failed} failed` : ""}`;
    },
  },
  {
    title: "Drift corrected",
    value: (minute) => minute.drift,
    head: (minutes) => plural(sum(minutes, "drift"), "difference", "differences"),
  },
  {
    title: "Log lines dropped",
    value: (minute) => minute.logDropped,
    head: (minutes) => `${sum(minutes, "logDropped").toLocaleString()} of ${sum(minutes, "logLines").toLocaleString()}`,
  },
];

export class Charts {
  #minutes = [];
  #figures = CHARTS.map((chart) => new Figure(chart));

  constructor() {
    byId("charts").append(...this.#figures.map((figure) => figure.node));
  }

  reset(minutes) {
    this.#minutes = minutes;
  }

  /** Adds the current minute and draws the hour up to it. */
  update(minute) {
    const earlier = this.#minutes.filter((one) => one.at < minute.at && one.at > minute.at - MINUTES * MINUTE_MS);
    this.#minutes = [...earlier, minute];
    for (const figure of this.#figures) figure.draw(this.#minutes, minute.at);
  }
}

class Figure {
  #chart;
  #bars = [];
  #minutes = [];
  #peak = 0;
  #isRead = false;

  constructor(chart) {
    this.#chart = chart;
    this.head = element("b", {});
    this.readout = element("span", { class: "readout" });
    this.svg = svgElement("svg", {
      viewBox: `0 0 ${MINUTES} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
    });
    for (let slot = 0; slot < MINUTES; slot += 1) {
      const whole = svgElement("rect", { x: slot + 0.12, width: 0.76, class: "value" });
      const worse = svgElement("rect", { x: slot + 0.12, width: 0.76, class: "worse" });
      this.#bars.push({ whole, worse });
      this.svg.append(whole, worse);
    }
    this.svg.addEventListener("pointermove", (event) => this.#read(event));
    this.svg.addEventListener("pointerleave", () => this.#showPeak());
    this.node = element(
      "figure",
      { class: "card chart" },
      element("figcaption", {}, element("span", {}, chart.title), this.head),
      this.svg,
      element("p", { class: "axis", "aria-hidden": "true" }, "1 h ago", this.readout, "now"),
    );
  }

  draw(minutes, newest) {
    this.#minutes = new Array(MINUTES).fill(undefined);
    for (const minute of minutes) {
      const slot = MINUTES - 1 - Math.round((newest - minute.at) / MINUTE_MS);
      if (slot >= 0) this.#minutes[slot] = minute;
    }
    const { value, worse, top, head, title } = this.#chart;
    const values = this.#minutes.map((minute) => (minute ? value(minute) : null));
    const highest = top ?? Math.max(1, ...values);
    values.forEach((amount, slot) => {
      const minute = this.#minutes[slot];
      raise(this.#bars[slot].whole, (amount ?? 0) / highest);
      raise(this.#bars[slot].worse, minute && worse ? worse(minute) / highest : 0);
    });
    this.#peak = Math.max(0, ...values);
    if (!this.#isRead) this.#showPeak();
    setText(this.head, head(minutes));
    this.svg.setAttribute("aria-label", `${title} in the last hour: ${head(minutes)}`);
  }

  #showPeak() {
    this.#isRead = false;
    const hasPeak = this.#peak > 0 && this.#chart.top === undefined;
    setText(this.readout, hasPeak ? `peak ${this.#peak.toLocaleString()} a minute` : "");
  }

  #read(event) {
    this.#isRead = true;
    const box = this.svg.getBoundingClientRect();
    const slot = Math.min(MINUTES - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * MINUTES)));
    const minute = this.#minutes[slot];
    const amount = minute && this.#chart.value(minute);
    const { worse, worseName, unit } = this.#chart;
    const bad = minute && worse ? worse(minute) : 0;
    const text = amount === null || amount === undefined ? "–" : `${Math.round(amount)}${unit ?? ""}`;
    setText(this.readout, minute ? `${timeOfDay(minute.at)}: ${text}${bad ? `, ${bad} ${worseName}` : ""}` : "");
  }
}

function raise(bar, share) {
  // A small value stays visible.
  const height = share > 0 ? Math.max(1.5, share * HEIGHT) : 0;
  bar.setAttribute("height", height);
  bar.setAttribute("y", HEIGHT - height);
}
