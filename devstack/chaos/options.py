"""Options of a chaos run."""

import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Database(StrEnum):
    """The database that the services share; it also sets their number."""

    SQLITE = "sqlite"  #: one service
    POSTGRES = "postgres"  #: two replicas

    @property
    def replicas(self) -> int:
        return 1 if self is Database.SQLITE else 2


@dataclass(frozen=True, kw_only=True)
class Options:
    kills: int
    minutes: float
    #: Seed of the actions; it does not fix how the processes interleave.
    seed: int
    database: Database
    folder: Path
    check_every: int = 12
    rooms: int = 8
    callers: int = 4
    people: int = 3
    #: True: start each service in a new Python; False: fork a process with all imports done.
    cold: bool = False
    #: The service's own settings.
    ttl_s: int = 4
    interval_ms: int = 2_000
    agent_name: str = "chaos-agent"
    #: How many warm agents wait.
    warm: int = 0
    #: The share of LiveKit's webhooks to lose.
    lost_webhooks: float = 0.0

    def rng(self, whose: str) -> random.Random:
        """The random choices of one part of the run, independent of the other parts."""
        return random.Random(f"{self.seed} {whose}")  # noqa: S311 - not a secret

    @property
    def lease_s(self) -> float:
        """How long a replica waits for another one that may be slow; a single service does not wait."""
        return 0 if self.database is Database.SQLITE else 15

    @property
    def settle_s(self) -> float:
        """Time for the look at a job that nobody took, the interval, a lease, and a busy machine."""
        return 6 + self.interval_ms / 1_000 + self.lease_s + 12

    @property
    def end_s(self) -> float:
        """Promise 3: TTL and interval, the removal itself, and the leftovers of a kill."""
        return self.ttl_s + self.interval_ms / 1_000 + self.lease_s + 10
