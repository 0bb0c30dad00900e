"""Calls under way: only so many at once, so that webhooks and probes have places while LiveKit hangs."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from app.errors import Busy

#: Well below the limit of connections: webhooks and probes have the rest.
CALL_LIMIT = 256


#: Marks a call that waits for an agent: how long that takes is no response time.
WAITS = web.RequestKey("waits", bool)


class CallLimiter:
    def __init__(self, limit: int = CALL_LIMIT) -> None:
        self._limit = limit
        self._under_way = 0
        self._waiting = 0

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

    @contextmanager
    def waiting(self, request: web.Request) -> Iterator[None]:
        """Lend the place of a call to others while it waits for an agent; raises Busy if too many wait."""
        if self._waiting >= self._limit:
            raise Busy("Too many calls wait for an agent; retry")
        request[WAITS] = True
        self._waiting += 1
        self._under_way -= 1
        try:
            yield
        finally:
            self._under_way += 1
            self._waiting -= 1
