"""One open page: the events on their way to it, of which there are never more than a few."""

import asyncio
from collections import deque

#: More than this unsent means that the page does not keep up; it begins anew with a snapshot.
MAX_WAITING = 16


class Subscriber:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._closed = False
        #: Whether it was closed because the page did not keep up.
        self.lags = False
        self._wake = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """Send the event; where too many wait already, close, so that nothing piles up."""
        if len(self._waiting) >= MAX_WAITING:
            self.give_up()
        elif not self._closed:
            self._waiting.append(event)
            self._wake.set()

    def give_up(self) -> None:
        """Close it because the page does not keep up."""
        self.lags = True
        self.close()

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._wake.set()

    async def next(self) -> bytes | None:
        """The next event; None once this watcher is closed."""
        await self._wake.wait()
        if self._closed:
            return None
        event = self._waiting.popleft()
        if not self._waiting:
            self._wake.clear()
        return event
