import type { AgentStatus } from "./agent-service.js";
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
  /** The agent was ended before it joined; resolves to whether it was requested again. */
  onEnded(): Promise<boolean>;
  onHopeless(): void;
}

/** While there is no agent, finds out whether one can be expected. */
export async function watchForAgent(watch: AgentWatch): Promise<void> {
  const { world, signal } = watch;
  const since = world.now();
  for (;;) {
    await world.sleep(watch.everyMs, signal);
    if (signal.aborted) return;
    // A service that does not answer tells nothing about the agent.
    const status = await watch.status().catch(() => null);
    if (signal.aborted) return;
    if (status?.state === "none" && (await watch.onEnded())) continue;
    if (signal.aborted) return;
    if (status?.hasAgent === false || world.now() - since >= watch.patienceMs) watch.onHopeless();
  }
}
