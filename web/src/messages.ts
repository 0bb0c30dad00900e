import type { ProblemCode } from "./problems.js";
import type { Phase } from "./state.js";

/** What to tell a person: what is the matter, and what they can do about it. */
export interface Message {
  readonly sentence: string;
  readonly nextStep: string;
}

/** Every sentence this package can say. To translate it, give another object of this type. */
export interface Messages {
  readonly phases: Readonly<Record<Phase, string>>;
  readonly problems: Readonly<Record<ProblemCode, Message>>;
}

export const english: Messages = {
  phases: {
    idle: "Not connected",
    requesting: "Asking for the agent…",
    connecting: "Joining the room…",
    "waiting-for-agent": "Waiting for the agent…",
    ready: "The agent is here",
    reconnecting: "Connection lost, coming back…",
    ended: "You have left",
    failed: "That did not work",
  },
  problems: {
    "no-agent": {
      sentence: "No agent is available right now.",
      nextStep: "Stay here and one will join as soon as it can, or ask again.",
    },
    "service-unreachable": {
      sentence: "The agent service cannot be reached.",
      nextStep: "Check your internet connection, then try again.",
    },
    "service-busy": {
      sentence: "Too many requests came at once.",
      nextStep: "Wait a moment, then try again.",
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
      sentence: "This page and its service do not agree.",
      nextStep: "Reload the page. If that does not help, tell whoever runs it.",
    },
    "taken-over": {
      sentence: "This conversation is now open in another tab.",
      nextStep: "Go on there, or join here again.",
    },
    "room-closed": {
      sentence: "The room was closed.",
      nextStep: "Join again to open a new one.",
    },
    "microphone-refused": {
      sentence: "The microphone may not be used.",
      nextStep:
        "You can type. To talk, allow the microphone in the browser's address bar and turn it on here.",
    },
    "microphone-missing": {
      sentence: "No microphone can be used.",
      nextStep: "You can type. To talk, connect a microphone that nothing else uses and turn it on here.",
    },
  },
};
