"""An event loop on simulated time: nothing sleeps, and the same steps always run in the same order.

There are no threads and no sockets in a simulation, so that whenever every task waits, the next thing to
happen is the earliest timer: time jumps there. What LiveKit plans for later is a timer of the same loop.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fakes.clock import SECOND_US, START_US, FakeClock

T = TypeVar("T")


class Stuck(AssertionError):
    """Everything waits, and nothing is planned."""


class _NeverWaits(selectors.DefaultSelector):
    """Says that nothing has come in; where asyncio would wait, it lets time pass instead."""

    def __init__(self, on_quiet: Callable[[float | None], None]) -> None:
        super().__init__()
        self._on_quiet = on_quiet

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._on_quiet(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.elapsed_us = 0
        self._quiet: list[asyncio.Future[None]] = []
        super().__init__(_NeverWaits(self._pass_time))

    def time(self) -> float:
        return self.elapsed_us / SECOND_US

    async def quiet(self) -> None:
        """Return when nothing can happen any more unless time passes."""
        future: asyncio.Future[None] = self.create_future()
        self._quiet.append(future)
        await future

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(coroutine)

    def _pass_time(self, timeout: float | None) -> None:
        if self._quiet:
            waiting, self._quiet = self._quiet, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
        elif timeout is None:
            raise Stuck("every task waits, and nothing is planned")
        else:
            self.elapsed_us = max(self.elapsed_us + 1, round((self.time() + timeout) * SECOND_US))


class SimulatedClock(FakeClock):
    """The loop's time, for the service and for the fake LiveKit."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def now(self) -> int:
        return START_US + self._loop.elapsed_us

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._loop.call_later(delay_s, callback)

    def advance(self, seconds: float) -> None:
        self._loop.finish(asyncio.sleep(seconds))
