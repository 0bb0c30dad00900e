// The page: sign-in, and the view of the stream.

import { Charts } from "./charts.js";
import { Confirm } from "./confirm.js";
import { ago, byId, element, setText, timeOfDay } from "./dom.js";
import { Rooms } from "./rooms.js";
import { Roster } from "./roster.js";
import { session, signIn, signOut, Stream } from "./service.js";
import { Timeline } from "./timeline.js";
import { showTtls } from "./ttls.js";
import { UsageChart } from "./usage.js";
import { showEndpoints } from "./endpoints.js";
import { showWarm } from "./warm.js";
import { showWorkers } from "./workers.js";

const VIEWS = ["sign-in", "not-configured", "board"];
const TOAST_MS = 6000;
const TILES = [
  ["active", "Active"],
  ["idle", "Idle"],
  ["pending", "Starting"],
  ["unavailable", "Unavailable"],
  ["people", "People"],
];

const roster = new Roster();
const confirm = new Confirm({ ended: toast, failed });
const timeline = new Timeline({ end: (agent) => confirm.ask(agent), failed });
const rooms = new Rooms(roster, {
  open: (agent) => timeline.open(agent),
  end: (agent) => confirm.ask(agent),
});
const charts = new Charts();
const usageChart = new UsageChart();
const tiles = new Map(TILES.map(([name, label]) => [name, tile(name, label)]));

const stream = new Stream({
  snapshot(message) {
    roster.reset(message);
    charts.reset(message.minutes);
    render();
    follow(message.agents);
  },
  changes(message) {
    roster.change(message);
    render();
    follow(message.agents);
  },
  beat(message) {
    roster.setTime(message.at);
    roster.counts = message.counts;
    charts.update(message.minute);
    showAlerts(message.alerts);
    showTtls(message.ttls);
    showWorkers(message.workers);
    showWarm(message.warm);
    showEndpoints(message.endpoints);
    setText(byId("problem"), message.problem ?? "");
    byId("problem").hidden = !message.problem;
    render();
  },
  live: () => showConnection("live", "Live"),
  lost() {
    if (byId("connection").dataset.state === "lost") return;
    showConnection("lost", `Reconnecting. Data as of ${timeOfDay(roster.now())}`);
  },
  signedOut: () => showSignIn("The session has ended. Sign in again."),
});

function render() {
  rooms.render();
  const totals = roster.totals();
  totals.pending = (totals.creating ?? 0) + (totals.starting ?? 0);
  for (const [name, node] of tiles) {
    setText(node, totals[name] === null ? "–" : (totals[name] ?? 0).toLocaleString());
    node.parentElement.classList.toggle("alarming", name === "unavailable" && totals[name] > 0);
  }
}

function follow(agents) {
  confirm.changed(agents);
  timeline.changed(agents);
}

function tile(name, label) {
  const number = element("dd", { id: `tile-${name}` }, "–");
  byId("tiles").append(element("div", { class: "card" }, element("dt", {}, label), number));
  return number;
}

function showAlerts(alerts) {
  const place = byId("alerts");
  place.hidden = !alerts.length;
  const names = alerts.map((alert) => `${alert.name} ${alert.summary}`).join("\n");
  if (place.dataset.names !== names) {
    place.dataset.names = names;
    place.replaceChildren(...alerts.map(alertCard));
  }
  place.querySelectorAll("time").forEach((node, index) => {
    setText(node, ago(roster.now() - alerts[index].since));
  });
}

function alertCard(alert) {
  return element(
    "div",
    { class: "card alert", role: "alert" },
    element("h2", {}, alert.summary),
    element("p", { class: "advice" }, alert.advice),
    element("p", { class: "since" }, element("code", {}, alert.name), " raised ", element("time", {})),
  );
}

function showConnection(state, text) {
  byId("connection").dataset.state = state;
  setText(byId("connection"), text);
  byId("board").classList.toggle("stale", state === "lost");
}

function show(view) {
  for (const name of VIEWS) byId(name).hidden = name !== view;
  byId("sign-out").hidden = view !== "board";
}

function showBoard() {
  show("board");
  showConnection("opening", "Connecting");
  stream.start();
  usageChart.start();
}

function showSignIn(problem = "") {
  stream.stop();
  usageChart.stop();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  showConnection("closed", "");
  setText(byId("sign-in-problem"), problem);
  show("sign-in");
  byId("api-key").focus();
}

function failed(problem) {
  if (problem.status === 401) showSignIn("The session has ended. Sign in again.");
  else toast(problem.message);
}

let toastTimer = 0;
function toast(message) {
  clearTimeout(toastTimer);
  setText(byId("toast"), message);
  // A popover is shown above an open dialog.
  byId("toast").showPopover();
  toastTimer = setTimeout(() => byId("toast").hidePopover(), TOAST_MS);
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("api-key");
  const button = event.submitter;
  if (button) button.disabled = true;
  try {
    await signIn(field.value.trim());
    setText(byId("sign-in-problem"), "");
    showBoard();
  } catch (problem) {
    setText(byId("sign-in-problem"), problem.status === 401 ? "Unknown API key." : problem.message);
    field.select();
  } finally {
    // The key does not stay in the page after a sign-in.
    if (byId("sign-in").hidden) field.value = "";
    if (button) button.disabled = false;
  }
});

byId("sign-out").addEventListener("click", async () => {
  stream.stop();
  try {
    await signOut();
    showSignIn();
  } catch (problem) {
    stream.start();
    toast(problem.message);
  }
});

// Once a second would now and then step over a second of the countdown.
setInterval(() => {
  if (!byId("board").hidden) rooms.tick();
}, 250);
// An ended agent leaves the list after a while, without a message.
setInterval(() => {
  if (!byId("board").hidden) rooms.render();
}, 5000);

async function begin() {
  try {
    const { configured, signedIn } = await session();
    if (signedIn) showBoard();
    else if (configured) showSignIn();
    else show("not-configured");
  } catch (problem) {
    showConnection("lost", problem.message);
    setTimeout(begin, 3000);
  }
}

begin();
