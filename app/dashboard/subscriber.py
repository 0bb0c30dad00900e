"""The subscriber: one open page and its bounded queue of events."""

import asyncio
from collections import deque

#: With more unsent events the page does not keep up; it reconnects and gets a new snapshot.
MAX_WAITING = 16


class Subscriber:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._closed = False
        #: Whether it was closed because the page did not keep up.
        self.lags = False
        self._wake = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """Queue the event; close if the queue is full."""
        if len(self._waiting) >= MAX_WAITING:
            self.give_up()
        elif not self._closed:
            self._waiting.append(event)
            self._wake.set()

    def give_up(self) -> None:
        """Close because the page does not keep up."""
        self.lags = True
        self.close()

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._wake.set()

    async def next(self) -> bytes | None:
        """The next event; None once the subscriber is closed."""
        await self._wake.wait()
        if self._closed:
            return None
        event = self._waiting.popleft()
        if not self._waiting:
            self._wake.clear()
        return event
