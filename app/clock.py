"""The source of every stored time; waits use the event loop's clock."""

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970. Never jumps, even when the machine's clock does."""


class SteadyClock:
    """The wall time at the start of the process plus the monotonic time since then.

    Deadlines are compared with it: setting the wall clock forward by an hour ends no agent early, and
    setting it back keeps no agent an hour too long.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def now(self) -> int:
        return (self._monotonic_ns() + self._offset_ns) // 1_000
