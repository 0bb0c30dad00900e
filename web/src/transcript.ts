import type { Utterance } from "./room-link.js";

const KEPT = 200;

/** What was said, oldest first; a new utterance with a known id replaces the old one. */
export class Transcript {
  readonly #listeners = new Set<() => void>();
  #utterances: readonly Utterance[] = [];

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly getSnapshot = (): readonly Utterance[] => this.#utterances;

  readonly hear = (utterance: Utterance): void => {
    const known = this.#utterances.some((one) => one.id === utterance.id);
    this.#utterances = known
      ? this.#utterances.map((one) => (one.id === utterance.id ? utterance : one))
      : [...this.#utterances, utterance].slice(-KEPT);
    for (const listener of [...this.#listeners]) listener();
  };
}
