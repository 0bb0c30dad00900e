"""The rate limiter: GCRA, one number for each of a bounded number of callers."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from app.clock import Clock

WINDOW_S = 60
_WINDOW_US = WINDOW_S * 1_000_000


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A caller's quota after one call."""

    limit: int
    #: Calls that would be allowed right now.
    remaining: int
    #: Until the whole limit is available again.
    reset_s: int
    #: 0: this call was allowed. Else it was rejected, and a call would be allowed after this time.
    retry_after_s: int = 0


class RateLimiter:
    """Allows each key a burst of `limit` calls, then as many in each minute, evenly spread.

    A rejected call costs nothing. Beyond `capacity` keys, the one that called least recently is forgotten and
    starts with a whole limit.
    """

    def __init__(self, clock: Clock, *, capacity: int = 20_000) -> None:
        self._clock = clock
        self._capacity = capacity
        #: When the whole limit is available again (GCRA's theoretical arrival time), latest caller last.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, limit: int) -> Quota:
        """Count one call of `key`; `limit` calls a minute are allowed."""
        now = self._clock.now()
        interval = _WINDOW_US / limit
        full_at = max(self._full_at.get(key, now), now) + interval
        excess = full_at - now - _WINDOW_US
        # Fractions of a microsecond add up over the calls of a minute.
        if excess > 1:
            return Quota(
                limit=limit,
                remaining=0,
                reset_s=_seconds(full_at - interval - now),
                retry_after_s=_seconds(excess),
            )
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        self._forget(now)
        return Quota(
            limit=limit, remaining=math.floor((1 - excess) / interval), reset_s=_seconds(full_at - now)
        )

    def give_back(self, key: Hashable, limit: int) -> None:
        """Undo one `take` that was allowed."""
        if key in self._full_at:
            self._full_at[key] -= _WINDOW_US / limit

    def _forget(self, now: int) -> None:
        """Drop some keys that have their whole limit again, and the oldest beyond the capacity."""
        for _ in range(2):
            key, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._capacity:
                return
            del self._full_at[key]


def _seconds(span_us: float) -> int:
    return max(1, math.ceil(span_us / 1_000_000))
