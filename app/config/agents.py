"""The policy of each agent name: what AGENTS_FILE says, and the environment where it says nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.lifecycle import SECOND_US, Restart, Share, Terms
from app.lifecycle.pool import Pool, targets_of


class MemberEnd(StrEnum):
    """Whether a participant may end the agent of its room for everybody."""

    ALWAYS = "always"
    IF_EMPTY = "if_empty"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class LearnedTtl:
    """The bounds of a TTL that is learned from how long people stay away (`ttl_s = "auto"`)."""

    ttl_min_s: int = 30
    ttl_max_s: int = 3_600
    #: The share of returns that are to find their agent.
    ttl_keep: float = 0.95


@dataclass(frozen=True, kw_only=True)
class AgentPolicy:
    """One agent's; None: no limit, or as the field before says."""

    #: Also the TTL of `learned` until enough returns were seen.
    ttl_s: int
    learned: LearnedTtl | None = None
    #: As long as nobody has come; None: the TTL.
    unvisited_ttl_s: int | None = None
    #: Once all who were in have called by telephone; None: the TTL.
    phone_ttl_s: int | None = None
    max_session_s: int | None = None
    warn_before_s: int = 0
    max_agents: int | None = None
    max_agents_per_identity: int | None = None
    join_timeout_s: int
    restart: Restart = Restart.ON_FAILURE
    #: Several deployments share the rooms.
    deployment: tuple[Share, ...] = ()
    closes_with_user: bool = True
    members_may_end: MemberEnd = MemberEnd.ALWAYS
    #: Whether a participant may put the agent of its room on hold, and resume it.
    members_may_hold: bool = False
    #: How many agents wait in holding rooms, and at most with those that start or end; None: as many.
    warm: int = 0
    warm_max: int | None = None
    warm_refill_per_minute: int = 30
    warm_max_age_s: int = 3_600

    @property
    def longest_ttl_s(self) -> int:
        longest_s = self.learned.ttl_max_s if self.learned else 0
        return max(self.ttl_s, longest_s, self.unvisited_ttl_s or 0, self.phone_ttl_s or 0)

    @property
    def pool(self) -> Pool:
        return Pool(
            targets=targets_of(self.warm, self.deployment),
            most=self.warm if self.warm_max is None else self.warm_max,
            max_age_us=self.warm_max_age_s * SECOND_US,
        )

    def terms(self, learned_ttl_us: int | None = None) -> Terms:
        """The terms of a new dispatch; `learned_ttl_us` None: nothing was learned."""
        given_us = self.ttl_s * SECOND_US
        return Terms(
            ttl_us=given_us if self.learned is None or learned_ttl_us is None else learned_ttl_us,
            join_timeout_us=self.join_timeout_s * SECOND_US,
            unvisited_ttl_us=_us(self.unvisited_ttl_s),
            phone_ttl_us=_us(self.phone_ttl_s),
            max_session_us=_us(self.max_session_s),
            warn_before_us=self.warn_before_s * SECOND_US,
            restart=self.restart,
            closes_with_user=self.closes_with_user,
        )


def room_timeout_s(policies: Iterable[AgentPolicy]) -> int:
    """How long a room without people must stay open to outlive the TTL of any agent."""
    return max(policy.longest_ttl_s for policy in policies) + 60


def _us(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * SECOND_US
