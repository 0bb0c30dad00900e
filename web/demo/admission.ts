import { problemOf, tokenEndpoint, type FetchCredentials, type Message } from "../src";
import type { Tab } from "./tab";

const KEY = "demo.api-key";

const MISSING: Message = {
  sentence: "This service issues tokens only to holders of an API key.",
  nextStep: "Enter one of its API_KEYS. This tab keeps the key until you close it.",
};
const WRONG: Message = {
  sentence: "This is not one of the service's API keys.",
  nextStep: "Enter another one.",
};

/** This tab's tokens, from the service's own endpoint; outside `dev` it requires an API key. */
export class Admission {
  readonly #tab: Tab;
  #refusal: Message | null = null;

  constructor(tab: Tab) {
    this.#tab = tab;
  }

  /** The message for a person who must enter a key; null if no key is needed. */
  get refusal(): Message | null {
    return this.#refusal;
  }

  useKey(key: string): void {
    this.#tab.write(KEY, key);
  }

  readonly fetchCredentials: FetchCredentials = async (signal) => {
    const { roomName, identity } = this.#tab;
    const key = this.#tab.read(KEY);
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    try {
      this.#refusal = null;
      return await tokenEndpoint({ url: "/api/livekit/token", roomName, identity, headers })(signal);
    } catch (error) {
      if (problemOf(error).code === "not-allowed") {
        this.#refusal = key ? WRONG : MISSING;
        this.#tab.forget(KEY);
      }
      throw error;
    }
  };
}
