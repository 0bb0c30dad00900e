"""SQLite in dedicated threads: one thread switch for a whole transaction.

aiosqlite switches to its thread and back for every cursor, statement and commit: a dozen times for a batch
of webhooks and eight times for a query. That is most of the time that either takes.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")


class SqliteThreads:
    """Runs transactions in the order of their submission, one in each thread."""

    def __init__(self, engine: Engine, *, threads: int) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database file")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; roll it back if the caller is cancelled before the commit."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._run, work, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def close(self) -> None:
        """Finish all submitted transactions; the engine stays open."""
        await asyncio.to_thread(self._threads.shutdown)

    def _run(self, work: Callable[[Connection], T], given_up: threading.Event) -> T:
        if given_up.is_set():
            raise GivenUp
        with self.engine.begin() as connection:
            result = work(connection)
            if given_up.is_set():
                raise GivenUp
        return result


class GivenUp(Exception):
    """The caller of this transaction was cancelled and was told that nothing was committed."""
