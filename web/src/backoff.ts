export interface Backoff {
  /** Total number of tries. */
  readonly tries: number;
  readonly firstMs: number;
  readonly longestMs: number;
  /** Above this, the person decides instead of an automatic retry. */
  readonly longestRetryAfterMs: number;
}

export const defaultBackoff: Backoff = {
  tries: 8,
  firstMs: 500,
  longestMs: 10_000,
  longestRetryAfterMs: 30_000,
};

/**
 * How long to wait after try number `tried` (1 is the first), or null when there is no further try.
 *
 * @param random from 0 to 1; the wait is between half and all of the delay, so that pages that failed
 *   together do not retry together.
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
