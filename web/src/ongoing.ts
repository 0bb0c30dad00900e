/** Work that goes on for as long as something holds. */
export class Ongoing {
  readonly #start: (signal: AbortSignal) => void;
  #running: AbortController | null = null;

  /** `start` begins the work; the signal ends it. */
  constructor(start: (signal: AbortSignal) => void) {
    this.#start = start;
  }

  while(holds: boolean): void {
    if (holds && !this.#running) {
      this.#running = new AbortController();
      this.#start(this.#running.signal);
    } else if (!holds) {
      this.#running?.abort();
      this.#running = null;
    }
  }
}
