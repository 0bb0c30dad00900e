"""How late the event loop is: whatever blocks it keeps every webhook and every timer waiting as long."""

import asyncio
from collections.abc import Callable

_EVERY_S = 1.0


class LoopLag:
    def __init__(self, observe: Callable[[float], None]) -> None:
        """`observe` is told the seconds once in every second."""
        self._observe = observe
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="loop lag")

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked_s = loop.time()
            await asyncio.sleep(_EVERY_S)
            self._observe(max(0.0, loop.time() - asked_s - _EVERY_S))
