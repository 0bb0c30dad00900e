// DOM helpers and formats. Names are set as text only: a room may have any name.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id; it always exists in the page's own markup. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes (`null` omits one) and children, which are elements or text. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets text only if it differs, to avoid needless announcements and layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const STATES = {
  creating: "Creating",
  starting: "Starting",
  active: "Active",
  idle: "Idle",
  unavailable: "Unavailable",
  on_hold: "On hold",
  ending: "Ending",
  ended: "Ended",
};

/** A state as a word in its own shape, so that it does not depend on colour. */
export function badge(state) {
  return element("span", { class: "badge", "data-state": state }, STATES[state] ?? state);
}

export function setBadge(node, state) {
  if (node.dataset.state === state) return;
  node.dataset.state = state;
  node.textContent = STATES[state] ?? state;
}

export const people = (count) => (count === 1 ? "1 person" : `${count} people`);

/** A duration in clock format: 0:07, 4:59, 1:02:03. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const pad = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  const head = hours ? `${hours}:${pad(minutes)}` : String(minutes);
  return `${head}:${pad(seconds % 60)}`;
}

/** A past duration in its largest unit. */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const timeOfDay = (ms) => TIME.format(ms);
export const moment = (ms) => MOMENT.format(ms);
export const iso = (ms) => new Date(ms).toISOString();

/** A cell of a table. Each has a label: on a phone the table has no head. */
export function cell(label, ...children) {
  return element("td", { role: "cell", "data-label": label }, ...children);
}

/** Shows a row for each item; they are made anew only if an item has changed. */
export function showRows(body, items, row) {
  const shown = JSON.stringify(items);
  if (body.dataset.shown === shown) return;
  body.dataset.shown = shown;
  body.replaceChildren(...items.map(row));
}
