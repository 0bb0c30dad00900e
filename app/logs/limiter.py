"""The rate limiter: never more lines than the limit in any second, wherever it begins."""

import sys
from collections import deque
from enum import IntEnum
from itertools import repeat

_WINDOW_US = 1_000_000

#: Lines that wait for a blocked output: some megabytes at most.
_MOST_UNDER_WAY = 10_000


class Rank(IntEnum):
    """The priority of a line when not all can be written."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


#: The share of the limit that lines up to this rank may use; the rest is for higher ones.
_SHARES = {Rank.DEBUG: 0.4, Rank.INFO: 0.6, Rank.WARNING: 0.8, Rank.ERROR: 1.0}


class LogRateLimiter:
    """Counts each line from its admission until a second after it has left the process.

    A token bucket would let through twice its size around a pause. This is exact, and holds at the moment of
    writing too, after an output was blocked.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: lines a second; 0: no limit."""
        self._limit = limit
        self._shares = {
            rank: max(1, int(limit * share)) if limit else sys.maxsize for rank, share in _SHARES.items()
        }
        self._under_way = 0
        #: When each line of the last second left.
        self._left_at: deque[int] = deque()

    def take(self, rank: Rank, lines: int, now: int) -> int:
        """How many of `lines` may be written; call `finish` for each of them."""
        while self._left_at and now - self._left_at[0] > _WINDOW_US:
            self._left_at.popleft()
        room = min(
            self._shares[rank] - self._under_way - len(self._left_at), _MOST_UNDER_WAY - self._under_way
        )
        granted = max(0, min(lines, room))
        self._under_way += granted
        return granted

    def finish(self, lines: int, now: int) -> None:
        """Lines have left the process, or were lost."""
        # In this order, so that a reader in between sees too many, never too few.
        if self._limit:
            self._left_at.extend(repeat(now, lines))
        self._under_way -= lines
