"""Calls under way: only so many at once, so that webhooks and probes have places while LiveKit hangs."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import Busy

#: Well below the limit of connections: webhooks and probes have the rest.
CALL_LIMIT = 256


class CallLimiter:
    def __init__(self, limit: int = CALL_LIMIT) -> None:
        self._limit = limit
        self._under_way = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one call; raises Busy if there is none."""
        if self._under_way >= self._limit:
            raise Busy("Too many calls are under way; retry")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
