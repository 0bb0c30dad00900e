import { english, isAtRest, isInRoom, type ConnectionState, type Message } from "../src";
import { element } from "./element";

type Mood = "away" | "busy" | "here" | "trouble";

const AGENT_STATES: Readonly<Record<string, string>> = {
  listening: "The agent is listening",
  thinking: "The agent is thinking",
  speaking: "The agent is speaking",
};

/** Show a state of the connection on the page. */
export function showConnection(
  state: ConnectionState,
  conversationEmpty: boolean,
  waiting: string,
  refusal: Message | null,
): void {
  const atRest = isAtRest(state.phase);
  const failed = state.phase === "failed";
  const inRoom = isInRoom(state.phase);
  const orb = element("orb");
  orb.dataset.mood = mood(state);
  orb.dataset.agent = state.agentState ?? "";
  say("status", title(state));
  showDetail(state, conversationEmpty, waiting);

  element("welcome").hidden = !conversationEmpty;
  // After a failure the person can retry or give up.
  element("join").hidden = !atRest || failed;
  element("key").hidden = !(failed && refusal);
  element("composer").hidden = atRest;
  element("actions").hidden = atRest && !failed;
  element<HTMLButtonElement>("send").disabled = state.phase !== "ready";
  say("leave", inRoom ? "Leave" : "Cancel");
  element<HTMLButtonElement>("microphone").disabled = !inRoom;
  element<HTMLButtonElement>("end").disabled = !inRoom || state.phase === "reconnecting";
  const microphoneOn = state.microphone === "on" || state.microphone === "starting";
  element("microphone").setAttribute("aria-pressed", String(microphoneOn));
  showNotice(failed && refusal ? { message: refusal } : noticeFor(state));
}

export function showDetail(state: ConnectionState, conversationEmpty: boolean, waiting: string): void {
  say("detail", state.phase === "ended" ? waiting : detail(state, conversationEmpty));
}

/** The action of the notice's button, if there is one. */
export type NoticeAction = "connect" | "startAudio";

interface Notice {
  readonly message: Message;
  readonly action?: NoticeAction;
}

function showNotice(notice: Notice | null): void {
  element("notice").hidden = notice === null;
  say("notice-sentence", notice?.message.sentence ?? "");
  say("notice-step", notice?.message.nextStep ?? "");
  const button = element("notice-action");
  button.hidden = !notice?.action;
  button.dataset.action = notice?.action ?? "";
  say("notice-action", notice?.action === "startAudio" ? "Play sound" : "Try again");
}

function noticeFor(state: ConnectionState): Notice | null {
  if (state.problem) {
    const message = english.problems[state.problem.code];
    // No button while retries are automatic or the join buttons are visible.
    const offer = state.phase === "failed" || state.phase === "waiting-for-agent";
    return offer ? { message, action: "connect" } : { message };
  }
  if (state.microphone === "refused") return { message: english.problems["microphone-refused"] };
  if (state.microphone === "missing") return { message: english.problems["microphone-missing"] };
  if (state.audioBlocked) {
    const message = {
      sentence: "The sound is off.",
      nextStep: "This browser plays no sound before you click.",
    };
    return { message, action: "startAudio" };
  }
  return null;
}

function mood(state: ConnectionState): Mood {
  if (state.phase === "failed") return "trouble";
  if (state.phase === "ready") return "here";
  return isAtRest(state.phase) ? "away" : "busy";
}

function title(state: ConnectionState): string {
  if (state.phase === "idle") return "Ready when you are";
  if (state.phase === "ready") return AGENT_STATES[state.agentState ?? ""] ?? english.phases.ready;
  return english.phases[state.phase];
}

function detail(state: ConnectionState, conversationEmpty: boolean): string {
  if (state.retryAt !== null) return "Not connected yet; retrying in a moment.";
  switch (state.phase) {
    case "idle":
      return conversationEmpty ? "The agent joins when you do." : "Join to continue where you left off.";
    case "failed":
      return "You are not in the room.";
    case "waiting-for-agent":
      return state.problem ? "You are in the room." : "This takes a second or two.";
    case "on-hold":
      return "The agent comes back when it is resumed.";
    case "reconnecting":
      return "The agent waits for you; you need not do anything.";
    case "ready":
      return state.microphone === "on"
        ? "Your microphone is on. This example only reads text; a real agent also listens."
        : "Write something below.";
    default:
      return "This takes a second or two.";
  }
}

/** Sets only changed texts: a screen reader reads every text that is set again. */
function say(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}
