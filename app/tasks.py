"""Background tasks: starting, repeating, locking by key, and draining at shutdown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class BackgroundTasks:
    """Tasks that nobody awaits until shutdown."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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
    """One task that runs until `close` cancels it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work, name=self._name)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def repeat(step: Callable[[], Awaitable[object]], interval_s: float) -> None:
    """Run `step` after every interval until cancelled; `step` handles its own failures."""
    while True:
        await asyncio.sleep(interval_s)
        await step()


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
