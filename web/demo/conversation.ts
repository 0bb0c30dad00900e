import type { Utterance } from "../src";
import type { Tab } from "./tab";

interface Line {
  readonly id: string;
  readonly kind: Utterance["from"] | "mark";
  readonly who: string;
  readonly text: string;
}

const KEPT_LINES = 100;
const NEAR_END_PX = 80;

/** The conversation on the page; the tab keeps it across a refresh. */
export class Conversation {
  readonly #tab: Tab;
  readonly #key: string;
  readonly #list: HTMLElement;
  readonly #scroll: HTMLElement;
  readonly #items = new Map<string, HTMLLIElement>();
  #lines: Line[];
  #atEnd = true;

  constructor(tab: Tab, list: HTMLElement, scroll: HTMLElement) {
    this.#tab = tab;
    this.#key = tab.conversationKey;
    this.#list = list;
    this.#scroll = scroll;
    this.#lines = parse(tab.read(this.#key));
    for (const line of this.#lines) this.#show(line);
    this.#scroll.addEventListener("scroll", () => (this.#atEnd = this.#isNearEnd()));
    // Nothing that appears, such as a phone's keyboard, may cover the end of the conversation.
    new ResizeObserver(() => this.#atEnd && this.#scrollToEnd()).observe(scroll);
    this.#scrollToEnd();
  }

  get empty(): boolean {
    return this.#lines.length === 0;
  }

  hear(utterance: Utterance): void {
    const who = { me: "You", agent: "Agent", other: utterance.identity }[utterance.from];
    this.#put({ id: utterance.id, kind: utterance.from, who, text: utterance.text });
  }

  /** Add a line about the conversation between its utterances. */
  mark(text: string): void {
    this.#put({ id: crypto.randomUUID(), kind: "mark", who: "", text });
  }

  #put(line: Line): void {
    const atEnd = this.#isNearEnd();
    const at = this.#lines.findIndex((one) => one.id === line.id);
    if (at >= 0) this.#lines[at] = line;
    else this.#lines.push(line);
    this.#lines = this.#lines.slice(-KEPT_LINES);
    this.#show(line);
    // Do not scroll away from a person who reads further up.
    if (atEnd || line.kind === "me") this.#scrollToEnd();
    this.#tab.write(this.#key, JSON.stringify(this.#lines));
  }

  #isNearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  #scrollToEnd(): void {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #show(line: Line): void {
    let item = this.#items.get(line.id);
    if (!item) {
      item = document.createElement("li");
      this.#items.set(line.id, item);
      this.#list.append(item);
    }
    item.className = line.kind === "mark" ? "mark" : `said ${line.kind}`;
    const who = document.createElement("b");
    who.textContent = line.who;
    // The side of the page shows who spoke; a screen reader needs the name.
    if (line.kind === "me") who.className = "unseen";
    item.replaceChildren(...(line.who ? [who, line.text] : [line.text]));
  }
}

function parse(kept: string | null): Line[] {
  try {
    return JSON.parse(kept ?? "[]") as Line[];
  } catch {
    return [];
  }
}
