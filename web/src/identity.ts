const IDENTITY = "agent-lifecycle.identity";
/** How long a page that is being refreshed may take to release its lock. */
const HANDOVER_MS = 1_000;

/**
 * This tab's LiveKit identity: generated once and kept as long as the tab lives, so that after a refresh the
 * person is the same one and not a stranger.
 */
export function sessionIdentity(prefix = "user", storage: Storage | null = tabStorage()): string {
  return remembered(IDENTITY, () => `${prefix}-${randomName()}`, storage);
}

/**
 * Like `sessionIdentity`, but unique to this tab: a duplicated tab has the first one's storage, and would
 * push it out of the room. The page holds the identity until it closes. Where the browser has no locks, as on
 * http, this is `sessionIdentity`.
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
    // A failure for any other reason tells nothing about a second tab.
    locks.request(`${IDENTITY}.${identity}`, { signal }, hold).catch(() => resolve(!signal.aborted));
  });
}

/** This tab's own room, kept as long as the tab lives: a refresh returns to it. */
export function sessionRoom(prefix = "room", storage: Storage | null = tabStorage()): string {
  return remembered("agent-lifecycle.room", () => `${prefix}-${randomName()}`, storage);
}

/** The value stored under `key` for this tab, or a new one from `make`, which is then stored. */
export function remembered(key: string, make: () => string, storage: Storage | null = tabStorage()): string {
  const kept = storage?.getItem(key);
  if (kept) return kept;
  const made = make();
  try {
    storage?.setItem(key, made);
  } catch {
    // Full or forbidden: the value then lasts as long as the page.
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
