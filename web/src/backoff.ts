export interface Backoff {
  /** How many tries there are in all. */
  readonly tries: number;
  readonly firstMs: number;
  readonly longestMs: number;
  /** Beyond this the person decides, not we. */
  readonly longestRetryAfterMs: number;
}

export const defaultBackoff: Backoff = {
  tries: 8,
  firstMs: 500,
  longestMs: 10_000,
  longestRetryAfterMs: 30_000,
};

/**
 * How long to wait after try number `tried` (1 is the first), or null when there is to be no other.
 *
 * @param random from 0 to 1; between half and the whole of the delay is waited, so that pages that failed
 *   together do not come back together.
 */
export function delayAfter(
  tried: number,
  retryAfterMs: number | undefined,
  backoff: Backoff,
  random: number,
): number | null {
  if (tried >= backoff.tries) return null;
  if (retryAfterMs !== undefined && retryAfterMs > backoff.longestRetryAfterMs) return null;
  const whole = Math.min(backoff.firstMs * 2 ** (tried - 1), backoff.longestMs);
  return Math.max(whole * (0.5 + random / 2), retryAfterMs ?? 0);
}
