"""The pool of an agent's warm ones: how many are to wait, which are to go, and when to try again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from app.lifecycle.terms import SECOND_US, WHOLE, Share
from app.lifecycle.warm import FAILURES, POOLED, WarmAgent, WarmEnd, WarmState

#: The first and the longest wait after agents that did not come: a worker may register at any time.
_FIRST_WAIT_US, _LONGEST_WAIT_US = 5 * SECOND_US, 60 * SECOND_US
#: The wait after one that cannot wait: only new code of the agent changes that.
_UNABLE_WAIT_US = 600 * SECOND_US


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What the policy of an agent says of its warm ones."""

    #: How many are to wait, by deployment.
    targets: Mapping[str, int]
    #: All at once, with those that start or end.
    most: int
    max_age_us: int

    def within(self, room: int) -> "Pool":
        """The same with no more than `room` at once."""
        return replace(self, most=max(0, min(self.most, room)))

    def is_aged(self, agent: WarmAgent, now: int) -> bool:
        return now - agent.created_at >= self.max_age_us


#: Of an agent that is to have no warm ones.
NO_POOL = Pool(targets={}, most=0, max_age_us=0)


def targets_of(wanted: int, shares: Sequence[Share]) -> dict[str, int]:
    """How many are to wait for each deployment, by its part of the rooms; the sum is `wanted`."""
    if not shares:
        return {"": wanted}
    exact = {share.deployment: wanted * share.weight / WHOLE for share in shares}
    targets = {deployment: int(part) for deployment, part in exact.items()}
    # What the rounding has left over goes to the largest remainders, in the order of the policy.
    by_remainder = sorted(exact, key=lambda one: targets[one] - exact[one])
    for deployment in by_remainder[: wanted - sum(targets.values())]:
        targets[deployment] += 1
    return targets


def surplus(agents: Iterable[WarmAgent], pool: Pool, now: int) -> list[tuple[WarmAgent, WarmEnd]]:
    """Which agents of the pool are to go, and why.

    An aged one stays until a newer one waits in its place. Where the pool may not grow for that, aged ones go
    one after the other.
    """
    agents = [agent for agent in agents if agent.state in POOLED]
    going: list[tuple[WarmAgent, WarmEnd]] = []
    for deployment in sorted({agent.deployment for agent in agents}):
        target = pool.targets.get(deployment, 0)
        own = [agent for agent in agents if agent.deployment == deployment]
        fresh = [agent for agent in own if not pool.is_aged(agent, now)]
        aged = sorted((agent for agent in own if pool.is_aged(agent, now)), key=_made)
        # Those that wait are kept before those that start.
        kept = sorted(fresh, key=_readiness)[:target]
        going += [(agent, WarmEnd.UNWANTED) for agent in fresh if agent not in kept]
        waiting = [agent for agent in kept if agent.state is WarmState.WAITING]
        spared = max(0, target - len(waiting))
        has_room = len(agents) < pool.most
        if aged and spared and not has_room and len(waiting) == len(kept):
            # Nothing is on its way: make room for one.
            spared = min(spared, len(aged) - 1)
        # The youngest of them are spared.
        dropped = aged[: max(0, len(aged) - spared)]
        going += [(agent, WarmEnd.AGED if target else WarmEnd.UNWANTED) for agent in dropped]
    gone = {agent.id for agent, _ in going}
    staying = sorted((agent for agent in agents if agent.id not in gone), key=_readiness)
    return going + [(agent, WarmEnd.UNWANTED) for agent in staying[pool.most :]]


def shortfall(agents: Iterable[WarmAgent], pool: Pool, now: int) -> list[str]:
    """The deployments for which new ones are to be made, one entry for each.

    `agents`: all that have not ended and are not claimed; those that end still take a place.
    """
    agents = list(agents)
    room = max(0, pool.most - len(agents))
    missing: list[str] = []
    for deployment, target in pool.targets.items():
        fresh = [
            agent
            for agent in agents
            if agent.deployment == deployment and agent.state in POOLED and not pool.is_aged(agent, now)
        ]
        missing += [deployment] * (target - len(fresh))
    return missing[:room]


def next_try_at(recent: Iterable[WarmAgent], now: int) -> int | None:
    """When another may be made after these, the newest first, of one deployment; None: at once.

    What has ended by a clock that was ahead counts for nothing: it would stop the pool until then.
    """
    over = [agent for agent in recent if agent.state not in POOLED and (agent.ended_at or now) <= now]
    failed = list(takewhile(lambda agent: agent.end_reason in FAILURES, over))
    if not failed:
        return None
    last = failed[0]
    ended_at = last.ended_at or last.created_at
    if last.end_reason is WarmEnd.NEVER_WAITED:
        return ended_at + _UNABLE_WAIT_US
    # Those that were made together are one try.
    tries = len({agent.created_at for agent in failed})
    return ended_at + min(_FIRST_WAIT_US << min(tries - 1, 16), _LONGEST_WAIT_US)


def _readiness(agent: WarmAgent) -> tuple[bool, tuple[int, str]]:
    """Those that wait come first."""
    return agent.state is not WarmState.WAITING, _made(agent)


def _made(agent: WarmAgent) -> tuple[int, str]:
    return agent.created_at, agent.id
