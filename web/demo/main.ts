/** The demo page: one AgentConnection, and the page around it. */
import { AgentConnection, AgentService, english, LiveKitLink, problemOf, type ConnectionState } from "../src";
import { Admission } from "./admission";
import { AgentPanel } from "./agent-panel";
import { Conversation } from "./conversation";
import { element } from "./element";
import { Tab, type Mode } from "./tab";
import { showConnection, showDetail } from "./view";

const tab = await Tab.open();
const { roomName } = tab;
const admission = new Admission(tab);
const connection = new AgentConnection({
  desk: new AgentService({ roomName, timezone: Intl.DateTimeFormat().resolvedOptions().timeZone }),
  fetchCredentials: admission.fetchCredentials,
  createLink: (onNews) => new LiveKitLink(onNews),
});
const conversation = new Conversation(tab, element("log"), element("scroll"));
const message = element<HTMLInputElement>("message");
const microphone = element("microphone");
const apiKey = element<HTMLInputElement>("api-key");

function join(mode: Mode): void {
  tab.mode = mode;
  void connection.setMicrophone(mode === "voice");
  connection.connect();
}

let shown: ConnectionState | null = null;
const panel: AgentPanel = new AgentPanel(
  () => connection.agentStatus(),
  () => shown && showDetail(shown, conversation.empty, panel.waitingText),
);

function show(): void {
  const state = connection.getSnapshot();
  const before = shown?.phase;
  shown = state;
  if (state.phase !== before) {
    if (state.phase === "ready") greet(state);
    // The person left for good; in all other cases a refresh joins again.
    if (before && (state.phase === "ended" || state.phase === "idle")) tab.mode = null;
    if (before) panel.look();
  }
  showConnection(state, conversation.empty, panel.waitingText, admission.refusal);
  if (state.phase === "failed" && admission.refusal) apiKey.focus();
  if (state.phase === "ready" && before !== "ready") message.focus({ preventScroll: true });
}

let greeted: string | null = null;

/** Announce the agent, once for each dispatch. */
function greet(state: ConnectionState): void {
  if (greeted === state.dispatchId) return;
  greeted = state.dispatchId;
  conversation.mark(state.reused ? "The agent from before continues with you" : "A new agent has joined");
}

function onClick(id: string, act: () => void): void {
  element(id).addEventListener("click", act);
}

onClick("join-voice", () => join("voice"));
onClick("join-text", () => join("text"));
onClick("refresh", () => location.reload());
onClick("leave", () => void connection.disconnect());
onClick("notice-action", () => {
  if (element("notice-action").dataset.action === "startAudio") void connection.startAudio();
  else connection.connect();
});
onClick("microphone", () => {
  const on = microphone.getAttribute("aria-pressed") !== "true";
  tab.mode = on ? "voice" : "text";
  void connection.setMicrophone(on);
});
onClick("end", () => {
  connection
    .endAgent()
    .then(() => conversation.mark("You ended the agent"))
    .catch((error: unknown) => conversation.mark(english.problems[problemOf(error).code].sentence))
    .finally(show);
});

element("key").addEventListener("submit", (event) => {
  event.preventDefault();
  admission.useKey(apiKey.value.trim());
  apiKey.value = "";
  connection.connect();
});

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || connection.getSnapshot().phase !== "ready") return;
  message.value = "";
  connection.sendText(text).catch(() => {
    // Keep the text, so that nobody has to type it again.
    message.value ||= text;
    conversation.mark("Your message could not be sent");
  });
});

connection.onUtterance((utterance) => {
  conversation.hear(utterance);
  element("welcome").hidden = true;
});
connection.subscribe(show);

element("room-name").textContent = roomName;
element<HTMLAnchorElement>("second-tab").href = tab.link;
show();
if (tab.mode) join(tab.mode);
