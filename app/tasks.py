"""Background tasks: how they start, take turns, repeat, and end when the service does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class BackgroundTasks:
    """Tasks that nobody awaits, until they are drained."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, grace_s: float) -> None:
        """Let them finish within the grace; what is left is cancelled, and found by its row's deadline."""
        await drain(self._tasks, grace_s)


async def drain(tasks: Collection[asyncio.Task[Any]], grace_s: float) -> None:
    """Await the tasks for the grace, and cancel those that are left."""
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class BackgroundLoop:
    """One task that runs until it is closed."""

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
    """Run the step after every interval, until this is cancelled; the step handles its own failures."""
    while True:
        await asyncio.sleep(interval_s)
        await step()


class KeyedLocks(Generic[K]):
    """One lock for each key, which exists only while somebody holds it or waits for it."""

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
