const IDENTITY = "agent-lifecycle.identity";
/** So long a page that is being refreshed may take to go. */
const HANDOVER_MS = 1_000;

/**
 * Who this tab is to LiveKit: made up once, and kept for as long as the tab lives, so that a refresh is the
 * same person coming back and not a stranger.
 */
export function sessionIdentity(prefix = "user", storage: Storage | null = tabStorage()): string {
  return remembered(IDENTITY, () => `${prefix}-${randomName()}`, storage);
}

/**
 * The same, and no other tab's: one that was duplicated has the first one's storage, and would put it out of the
 * room. It is held until the page goes. Where the browser has no locks, as on http, it is `sessionIdentity`.
 */
export async function claimIdentity(
  prefix = "user",
  storage: Storage | null = tabStorage(),
  locks: LockManager | undefined = globalThis.navigator?.locks,
): Promise<string> {
  const identity = sessionIdentity(prefix, storage);
  if (!locks || !storage || (await isFree(identity, locks))) return identity;
  storage.removeItem(IDENTITY);
  return claimIdentity(prefix, storage, locks);
}

function isFree(identity: string, locks: LockManager): Promise<boolean> {
  const signal = AbortSignal.timeout(HANDOVER_MS);
  return new Promise((resolve) => {
    const hold = () => {
      resolve(true);
      return new Promise<never>(() => {});
    };
    // A refusal for any other reason says nothing about a second tab.
    locks.request(`${IDENTITY}.${identity}`, { signal }, hold).catch(() => resolve(!signal.aborted));
  });
}

/** A room of this tab's own, for as long as the tab lives: a refresh leads back into it. */
export function sessionRoom(prefix = "room", storage: Storage | null = tabStorage()): string {
  return remembered("agent-lifecycle.room", () => `${prefix}-${randomName()}`, storage);
}

/** The value kept under `key` for this tab, or a new one from `make`, kept from now on. */
export function remembered(key: string, make: () => string, storage: Storage | null = tabStorage()): string {
  const kept = storage?.getItem(key);
  if (kept) return kept;
  const made = make();
  try {
    storage?.setItem(key, made);
  } catch {
    // Full or forbidden: then it lasts as long as the page.
  }
  return made;
}

export function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** This tab's storage; null where the browser forbids it. */
export function tabStorage(): Storage | null {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}
