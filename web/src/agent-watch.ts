import type { AgentStatus } from "./agent-service.js";
import { holdOf, type Hold } from "./stay.js";
import type { Surroundings } from "./surroundings.js";

export interface AgentWatch {
  readonly world: Surroundings;
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** How often the service is asked for the agent's status. */
  readonly everyMs: number;
  /** After this long without an agent there is no hope, whatever the service reports. */
  readonly patienceMs: number;
  status(): Promise<AgentStatus | null>;
  /** One call that lasts until the agent answers or cannot be expected; null if there is none to wait for. */
  awaitAgent(): Promise<void> | null;
  /** The agent was ended before it joined; resolves to whether it was requested again. */
  onEnded(): Promise<boolean>;
  /** `state`: what the service says about the agent, if it has answered. */
  onHopeless(state: string | undefined): void;
  /** What the service says of a hold, each time. */
  onHold(hold: Hold): void;
}

/** While there is no agent, finds out whether one can be expected. */
export async function watchForAgent(watch: AgentWatch): Promise<void> {
  const { world, signal } = watch;
  const since = world.now();
  let waiting: Promise<void> | null = null;
  let hasWaited = false;
  for (;;) {
    await world.sleep(watch.everyMs, signal);
    if (signal.aborted) return;
    if (!hasWaited) {
      hasWaited = true;
      waiting = watch.awaitAgent();
      void waiting?.then(() => (waiting = null));
    }
    // The call that waits fails with the reason: until then there is nothing to ask. A service that does not
    // answer tells nothing about the agent.
    const status = waiting ? null : await watch.status().catch(() => null);
    if (signal.aborted) return;
    if (status) watch.onHold(holdOf(status.state));
    if (signal.aborted) return;
    if (status?.state === "none" && (await watch.onEnded())) continue;
    if (signal.aborted) return;
    if (status?.hasAgent === false || world.now() - since >= watch.patienceMs)
      watch.onHopeless(status?.state);
  }
}
