"""What was done in each minute of the last hour, from counters that only grow."""

from collections import deque
from dataclasses import dataclass, fields

MINUTE_US = 60_000_000
MINUTES = 60


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counters of this process as they stand at one moment."""

    #: Dispatches made, whoever wanted them.
    created: int = 0
    #: Calls that got a new agent, and calls that got the one that was there.
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
    """What came about between `at` and a minute later."""

    at: int
    counts: Totals


class MinuteHistory:
    """A ring of minutes; one without a reading is simply not there."""

    def __init__(self) -> None:
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._last: Totals | None = None

    @property
    def minutes(self) -> list[Minute]:
        return list(self._minutes)

    def record(self, at: int, totals: Totals) -> Minute:
        """Count what came about since the last reading into the minute of `at`, and give that minute."""
        begin = at - at % MINUTE_US
        increase = _difference(totals, self._last or totals)
        self._last = totals
        if self._minutes and self._minutes[-1].at >= begin:
            newest = self._minutes.pop()
            minute = Minute(at=newest.at, counts=_sum(newest.counts, increase))
        else:
            minute = Minute(at=begin, counts=increase)
        self._minutes.append(minute)
        return minute


def _difference(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: getattr(one, name) - getattr(other, name) for name in _NAMES})


def _sum(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: getattr(one, name) + getattr(other, name) for name in _NAMES})


_NAMES = tuple(one.name for one in fields(Totals))
