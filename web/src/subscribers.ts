/** Those who want to be told of something. */
export class Subscribers<T> {
  readonly #told = new Set<(news: T) => void>();

  /** Returns the function that unsubscribes. */
  readonly add = (subscriber: (news: T) => void): (() => void) => {
    this.#told.add(subscriber);
    return () => this.#told.delete(subscriber);
  };

  tell(news: T): void {
    for (const subscriber of [...this.#told]) subscriber(news);
  }
}
