"""The one source of time for whatever is stored; how long to wait is the event loop's business."""

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970. Never jumps, whatever happens to the machine's clock."""


class SteadyClock:
    """The wall time at the start of the process, carried on by the monotonic clock.

    Deadlines are compared with it, so a wall clock that is put forward by an hour ends no agent early, and
    one that is put back keeps none for an hour too long.
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
