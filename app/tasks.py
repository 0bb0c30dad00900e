"""Background tasks: starting, restarting, repeating, asking again, locking by key, and draining at shutdown.

No other module makes tasks, but for those that a caller awaits: here, one that fails is logged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Between a failure of a loop and its restart; the delay doubles with each failure in a row.
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0


class BackgroundTasks:
    """Tasks that nobody awaits until shutdown."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error(
                "Unexpected error in a background task",
                exc_info=error,
                extra={"action": "task", "task": task.get_name()},
            )

    async def drain(self, grace_s: float) -> None:
        """See `drain`; the deadline of a row takes up cancelled work."""
        await drain(self._tasks, grace_s)


async def drain(tasks: Collection[asyncio.Task[Any]], grace_s: float) -> None:
    """Let the tasks finish within the grace, then cancel those that are left."""
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class BackgroundLoop:
    """One task that works until its work ends or `close` cancels it; after an error it starts again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._finishing = asyncio.Event()

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.create_task(self._keep_up(work), name=self._name)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for the end of work that has been told to end."""
        self._finishing.set()
        if self._task:
            await self._task

    async def _keep_up(self, work: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        delay_s = _FIRST_DELAY_S
        while True:
            began_s = loop.time()
            try:
                return await work()
            except (Exception, asyncio.CancelledError):
                # A CancelledError that nobody asked for comes from something that the work awaited.
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                if loop.time() - began_s > _LONGEST_DELAY_S:
                    delay_s = _FIRST_DELAY_S
                logger.exception(
                    "Unexpected error in a background task; it starts again",
                    extra={"action": "task", "task": self._name, "seconds": delay_s},
                )
            await self._pause(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless a stop waits for the work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finishing.wait()
        await asyncio.sleep(0)


async def repeat(step: Callable[[], Awaitable[object]], interval_s: float) -> None:
    """Run `step` after every interval until cancelled; `step` handles its own failures."""
    while True:
        await asyncio.sleep(interval_s)
        await step()


async def ask_again(
    question: Callable[[], Coroutine[Any, Any, T]], after_s: float, is_answer: Callable[[T], bool]
) -> T:
    """Ask, and ask once more if there is no answer after `after_s`: a single question may be lost.

    What the first one returns or raises counts; the second one only if it is an answer and comes before.
    """
    first = asyncio.create_task(question())
    asked = {first}
    try:
        await asyncio.wait(asked, timeout=after_s)
        if not first.done():
            second = asyncio.create_task(question())
            asked.add(second)
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            if not first.done() and second.exception() is None and is_answer(second.result()):
                return second.result()
        return await first
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


@asynccontextmanager
async def begun(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Let `work` go on beside the block, which may await it; what the block has not awaited is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def batches(items: Sequence[T], size: int) -> AsyncIterator[Sequence[T]]:
    """The items in batches; other tasks run after each."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
        await asyncio.sleep(0)


class KeyedLocks(Generic[K]):
    """One lock for each key; a lock exists only while it is held or awaited."""

    def __init__(self) -> None:
        self._locks: dict[K, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: K) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
