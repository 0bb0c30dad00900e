"""Time that passes only when a test says so."""

import heapq
import itertools
from collections.abc import Callable

SECOND_US = 1_000_000

#: 2027-01-15T08:00:00Z: any moment will do, as long as it is always the same.
START_US = 1_800_000_000 * SECOND_US


class FakeClock:
    """`app.clock.Clock`, and what the fake LiveKit plans for later."""

    def __init__(self, start: int = START_US) -> None:
        self._now = start
        self._planned: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> int:
        return self._now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Plan a callback, which runs as time is advanced past its moment."""
        at = self._now + round(delay_s * SECOND_US)
        heapq.heappush(self._planned, (at, next(self._order), callback))

    def advance(self, seconds: float) -> None:
        """Let time pass; what was planned happens in order, each at its own moment."""
        end = self._now + round(seconds * SECOND_US)
        while self._planned and self._planned[0][0] <= end:
            at, _, callback = heapq.heappop(self._planned)
            self._now = max(self._now, at)
            callback()
        self._now = end
