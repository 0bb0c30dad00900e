"""The last hour in minutes, from counters that only grow."""

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

MINUTE_US = 60_000_000
MINUTES = 60


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The counters of this process at one moment."""

    #: Created dispatches, requested by a caller or by the service.
    created: int = 0
    #: Calls that got a new agent, and calls that got the existing one.
    fresh: int = 0
    reused: int = 0
    replaced: int = 0
    cleanups: int = 0
    cleanup_failures: int = 0
    drift: int = 0
    log_lines: int = 0
    log_dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Minute:
    """The increase of the counters in the minute from `at`."""

    at: int
    counts: Totals


class MinuteHistory:
    """A ring of minutes; a minute without a reading is missing."""

    def __init__(self) -> None:
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._last: Totals | None = None

    @property
    def minutes(self) -> list[Minute]:
        return list(self._minutes)

    def record(self, at: int, totals: Totals) -> Minute:
        """Add the increase since the last reading to the minute of `at`, and return that minute."""
        begin = at - at % MINUTE_US
        increase = _combined(operator.sub, totals, self._last or totals)
        self._last = totals
        if self._minutes and self._minutes[-1].at >= begin:
            newest = self._minutes.pop()
            minute = Minute(at=newest.at, counts=_combined(operator.add, newest.counts, increase))
        else:
            minute = Minute(at=begin, counts=increase)
        self._minutes.append(minute)
        return minute


def _combined(operation: Callable[[int, int], int], one: Totals, other: Totals) -> Totals:
    names = (field.name for field in fields(Totals))
    return Totals(**{name: operation(getattr(one, name), getattr(other, name)) for name in names})
