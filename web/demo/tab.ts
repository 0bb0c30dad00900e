import { claimIdentity, randomName, remembered, sessionIdentity, tabStorage } from "../src";

/** How the person joined; stored so that a refresh joins the same way. */
export type Mode = "voice" | "text";

/** As the service has it: any name that LiveKit takes, without control characters and surrounding blanks. */
const ROOM_NAME = /^(?!\s)[^\p{Cc}\p{Cs}]+(?<!\s)$/u;
const ROOM_NAME_BYTES = 256;
const ROOM = "demo.room";
const MODE = "demo.mode";

/** What this tab remembers across a refresh, and forgets when it is closed. */
export class Tab {
  readonly identity: string;
  readonly roomName: string;
  readonly #storage = tabStorage();

  static async open(): Promise<Tab> {
    const kept = sessionIdentity("guest");
    return new Tab(kept, await claimIdentity("guest"));
  }

  private constructor(kept: string, identity: string) {
    this.identity = identity;
    const asked = new URLSearchParams(location.search).get("room") ?? "";
    this.roomName = isRoomName(asked) ? asked : remembered(ROOM, () => `demo-${randomName().slice(0, 6)}`);
    // A duplicated tab has the first one's memory, but is a different person, who has said nothing yet.
    if (identity !== kept) {
      this.mode = null;
      this.forget(this.conversationKey);
    }
    // In the address, so that a copied link leads to this room.
    history.replaceState(null, "", this.link);
  }

  get link(): string {
    return `?${new URLSearchParams({ room: this.roomName })}`;
  }

  get conversationKey(): string {
    return `demo.conversation.${this.roomName}`;
  }

  get mode(): Mode | null {
    const mode = this.#storage?.getItem(MODE);
    return mode === "voice" || mode === "text" ? mode : null;
  }

  set mode(mode: Mode | null) {
    if (mode) this.write(MODE, mode);
    else this.forget(MODE);
  }

  read(key: string): string | null {
    return this.#storage?.getItem(key) ?? null;
  }

  forget(key: string): void {
    this.#storage?.removeItem(key);
  }

  write(key: string, value: string): void {
    try {
      this.#storage?.setItem(key, value);
    } catch {
      // Full: a refresh then shows less.
    }
  }
}

function isRoomName(name: string): boolean {
  return ROOM_NAME.test(name) && new TextEncoder().encode(name).length <= ROOM_NAME_BYTES;
}
