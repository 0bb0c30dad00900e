"""Learning: reads how long people stay away, and sets the TTL of the agents that have `ttl_s = "auto"`."""

import logging
from collections.abc import Mapping, Sequence

from app.clock import Clock
from app.config.agents import AgentPolicy, LearnedTtl
from app.control.policies import Policies
from app.database.returns import ReturnCounts
from app.database.usage import UsageTable
from app.lifecycle import SECOND_US
from app.lifecycle.days import day_of
from app.lifecycle.returns import (
    FORGOTTEN_AFTER_DAYS,
    HALF_LIFE_DAYS,
    DayCount,
    buckets_within,
    decayed,
    learn,
)
from app.metrics.counters import Counters
from app.state.changes import Change, Outcome
from app.state.views import AgentTtl, TtlSource

logger = logging.getLogger(__name__)

#: How many days the costs and savings cover, today included.
_SHOWN_DAYS = HALF_LIFE_DAYS
#: The sum of the idle time reads all dispatches of these days.
_IDLE_EVERY_US = 600 * SECOND_US


class Learning:
    """Every process reads the same counts and so learns the same."""

    def __init__(
        self, returns: ReturnCounts, usage: UsageTable, policies: Policies, counters: Counters, clock: Clock
    ) -> None:
        self._returns = returns
        self._usage = usage
        self._policies = policies
        self._counters = counters
        self._clock = clock
        self._counts: Mapping[str, Sequence[DayCount]] = {}
        self._ttls_us: dict[str, int] = {}
        self._idle_us: Mapping[str, int] = {}
        self._idle_read_at: int | None = None

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """Count the returns of a commit."""
        for one in outcome.returns:
            policy = self._policies.agents.get(one.agent_name)
            if policy and one.bucket < buckets_within(_longest_us(policy)):
                self._counters.returns[one.agent_name, "kept" if one.is_kept else "lost"] += 1

    async def refresh(self) -> None:
        """Learn from all that was counted, by any replica.

        Raises:
            DatabaseUnavailable: the counts cannot be read; what was learned stays.
        """
        now = self._clock.now()
        today = day_of(now)
        self._counts = await self._returns.since(today - FORGOTTEN_AFTER_DAYS)
        self.relearn()
        if self._idle_read_at is None or now - self._idle_read_at >= _IDLE_EVERY_US:
            self._idle_us = await self._usage.idle_us(today - _SHOWN_DAYS + 1)
            self._idle_read_at = now

    def relearn(self) -> None:
        """Learn from the counts as they were read last: the policies may have changed since."""
        today = day_of(self._clock.now())
        ttls_us = {
            name: ttl_us
            for name, policy in self._policies.agents.items()
            if (ttl_us := _learned_us(policy, self._counts.get(name, ()), today)) is not None
        }
        before, self._ttls_us = self._ttls_us, ttls_us
        if ttls_us == before:
            return
        self._policies.learn(ttls_us)
        for name in sorted(ttls_us.keys() | before.keys()):
            if name in self._policies.agents and ttls_us.get(name) != before.get(name):
                logger.info(
                    "The TTL of an agent was learned from its returns",
                    extra={"action": "learn", "agent": name, "ttl_s": self._ttl_us(name) / SECOND_US},
                )

    async def prune(self) -> None:
        await self._returns.prune(day_of(self._clock.now()) - FORGOTTEN_AFTER_DAYS)

    def ttls(self) -> Sequence[AgentTtl]:
        """The TTL of every agent name, with its costs and savings."""
        return [self._ttl(name, policy) for name, policy in sorted(self._policies.agents.items())]

    def _ttl(self, name: str, policy: AgentPolicy) -> AgentTtl:
        buckets = buckets_within(_longest_us(policy))
        first_day = day_of(self._clock.now()) - _SHOWN_DAYS + 1
        shown = [
            count for count in self._counts.get(name, ()) if count.day >= first_day and count.bucket < buckets
        ]
        has_learned = policy.learned is not None and name in self._ttls_us
        default = TtlSource.DEFAULT if policy.learned else TtlSource.FIXED
        return AgentTtl(
            agent_name=name,
            ttl_us=self._ttl_us(name),
            source=TtlSource.LEARNED if has_learned else default,
            kept=sum(count.kept for count in shown),
            lost=sum(count.lost for count in shown),
            idle_us=self._idle_us.get(name, 0),
        )

    def _ttl_us(self, name: str) -> int:
        return self._policies.lifecycle.agents[name].ttl_us


def _longest_us(policy: AgentPolicy) -> int:
    """Who stays away for longer begins anew, as far as costs and savings are concerned."""
    longest_s = policy.learned.ttl_max_s if policy.learned else max(policy.ttl_s, LearnedTtl.ttl_max_s)
    return longest_s * SECOND_US


def _learned_us(policy: AgentPolicy, counts: Sequence[DayCount], today: int) -> int | None:
    if policy.learned is None:
        return None
    return learn(
        decayed(counts, today),
        keep=policy.learned.ttl_keep,
        min_us=policy.learned.ttl_min_s * SECOND_US,
        max_us=policy.learned.ttl_max_s * SECOND_US,
    )
