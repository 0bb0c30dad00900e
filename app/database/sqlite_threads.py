"""SQLite in threads of our own: a whole transaction, or everything that one question reads, in one hop.

aiosqlite hops to its thread and back for every cursor, statement and commit, a dozen times for a batch of
webhooks and eight times for a question. That is most of the time that either takes.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")


class SqliteThreads:
    """Runs transactions in the order in which they were asked for, as many at once as there are threads."""

    def __init__(self, engine: Engine, *, threads: int) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database file")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; where the caller gives up before its commit, it is rolled back."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._run, work, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def close(self) -> None:
        """Finish what runs and what waits, then let go of the file."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def _run(self, work: Callable[[Connection], T], given_up: threading.Event) -> T:
        if given_up.is_set():
            raise GivenUp
        with self.engine.begin() as connection:
            result = work(connection)
            if given_up.is_set():
                raise GivenUp
        return result


class GivenUp(Exception):
    """Nobody waits for this transaction any more, and whoever did was told that it was not taken."""
