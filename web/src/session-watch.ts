import type { AgentStatus } from "./agent-service.js";
import { problemOf } from "./problems.js";
import type { Surroundings } from "./surroundings.js";

export interface SessionWatch {
  readonly world: Surroundings;
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** The shortest time between two questions to the service. */
  readonly everyMs: number;
  status(): Promise<AgentStatus | null>;
  onEnd(sessionEndsAt: number | null, endingSoon: boolean): void;
}

/** The closer the end, the more often: so the time of the warning is noticed within a tenth of what is left. */
const PART_OF_WHAT_IS_LEFT = 10;
const LONGEST_MS = 300_000;
/** By then a service that did not answer may be back. */
const AFTER_FAILURE_MS = 30_000;

/** While an agent is here, finds out when its session ends, and whether that is soon. */
export async function watchSession(watch: SessionWatch): Promise<void> {
  const { world, signal, everyMs } = watch;
  let waitMs = everyMs;
  for (;;) {
    await world.sleep(waitMs, signal);
    if (signal.aborted) return;
    try {
      const status = await watch.status();
      if (signal.aborted) return;
      // The service may not have heard yet that the agent is here.
      if (status?.state !== "active") waitMs = everyMs;
      else {
        const endsAt = status.sessionEndsAt ? Date.parse(status.sessionEndsAt) : null;
        watch.onEnd(endsAt, status.endingSoon ?? false);
        if (endsAt === null) return;
        waitMs = Math.min(Math.max((endsAt - world.now()) / PART_OF_WHAT_IS_LEFT, everyMs), LONGEST_MS);
      }
    } catch (error) {
      // A token that has expired stays so.
      if (!problemOf(error).retryable) return;
      waitMs = AFTER_FAILURE_MS;
    }
  }
}
