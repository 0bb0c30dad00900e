"""What a run of the storm is made of."""

import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Database(StrEnum):
    """Which database the services share, and with it how many of them there are."""

    SQLITE = "sqlite"  #: one service
    POSTGRES = "postgres"  #: two replicas

    @property
    def replicas(self) -> int:
        return 1 if self is Database.SQLITE else 2


@dataclass(frozen=True, kw_only=True)
class Options:
    kills: int
    minutes: float
    #: Of what is done when; the processes' own interleaving is nobody's to repeat.
    seed: int
    database: Database
    folder: Path
    check_every: int = 12
    rooms: int = 8
    callers: int = 4
    people: int = 3
    #: Whether each start is one of a Python of its own, or a fork of one that has imported everything.
    cold: bool = False
    #: The service's own settings.
    ttl_s: int = 4
    interval_ms: int = 2_000
    agent_name: str = "chaos-agent"
    #: LiveKit's webhooks to be lost on their way, a share of all.
    lost_webhooks: float = 0.0

    def rng(self, whose: str) -> random.Random:
        """The choices of one part of the run, which depend on no other's."""
        return random.Random(f"{self.seed} {whose}")  # noqa: S311 - nobody is to be kept from guessing

    @property
    def lease_s(self) -> float:
        """How long a replica waits for one that may only be slow; a lone service knows that it was killed."""
        return 0 if self.database is Database.SQLITE else 15

    @property
    def settle_s(self) -> float:
        """The look at a job that nobody took, the interval, a lease, and time for a busy machine."""
        return 6 + self.interval_ms / 1_000 + self.lease_s + 12

    @property
    def end_s(self) -> float:
        """Promise 3: TTL and interval, the removal itself, and what a kill may have left behind."""
        return self.ttl_s + self.interval_ms / 1_000 + self.lease_s + 10
