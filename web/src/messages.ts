import type { ProblemCode } from "./problems.js";
import type { Phase } from "./state.js";

/** A message for a person: what is wrong, and what they can do about it. */
export interface Message {
  readonly sentence: string;
  readonly nextStep: string;
}

/** Every sentence that this package shows. To translate them, pass another object of this type. */
export interface Messages {
  readonly phases: Readonly<Record<Phase, string>>;
  readonly problems: Readonly<Record<ProblemCode, Message>>;
}

export const english: Messages = {
  phases: {
    idle: "Not connected",
    requesting: "Requesting the agent…",
    connecting: "Joining the room…",
    "waiting-for-agent": "Waiting for the agent…",
    "on-hold": "A person has taken over from the agent",
    ready: "The agent is here",
    reconnecting: "Connection lost, reconnecting…",
    ended: "You have left",
    failed: "The connection failed",
  },
  problems: {
    "no-agent": {
      sentence: "No agent is available right now.",
      nextStep: "Stay here: an agent joins as soon as one is free. You can also try again now.",
    },
    "session-over": {
      sentence: "The conversation has reached its longest time.",
      nextStep: "Try again to begin a new one.",
    },
    "service-unreachable": {
      sentence: "The agent service cannot be reached.",
      nextStep: "Check your internet connection, then try again.",
    },
    "service-busy": {
      sentence: "There are too many requests at the moment.",
      nextStep: "Wait a moment, then try again.",
    },
    "at-capacity": {
      sentence: "All agents are busy at the moment.",
      nextStep: "Try again in a moment. If you have a conversation open elsewhere, end it there.",
    },
    "not-allowed": {
      sentence: "You are not allowed into this room.",
      nextStep: "Sign in again, or ask for a new invitation.",
    },
    "livekit-unreachable": {
      sentence: "The call server cannot be reached.",
      nextStep: "Check your internet connection; a VPN or a firewall may be in the way. Then try again.",
    },
    misconfigured: {
      sentence: "The agent service rejected this page's request.",
      nextStep: "Reload the page. If that does not help, contact the operator of this page.",
    },
    "taken-over": {
      sentence: "This conversation is now open in another tab.",
      nextStep: "Continue there, or join here again.",
    },
    "room-closed": {
      sentence: "The room was closed.",
      nextStep: "Join again to open a new one.",
    },
    "microphone-refused": {
      sentence: "The browser blocks the microphone.",
      nextStep:
        "You can type. To talk, allow the microphone in the browser's address bar and turn it on here.",
    },
    "microphone-missing": {
      sentence: "No usable microphone was found.",
      nextStep: "You can type. To talk, connect a microphone that no other program uses and turn it on here.",
    },
  },
};
