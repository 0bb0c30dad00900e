"""SQLite's one writer: a whole transaction in one hop to a thread of its own.

aiosqlite hops to its thread and back for every cursor, statement and commit, a dozen times for a batch of
webhooks. Who only reads does not care; for the writer that is most of the time that a batch takes.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")


class FileWriter:
    """Runs one transaction at a time, in the order in which they were asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="file writer")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; where the caller gives up before its commit, it is rolled back."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._write, work, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def close(self) -> None:
        """Finish what runs and what waits, then let go of the file."""
        await asyncio.to_thread(self._thread.shutdown)
        self.engine.dispose()

    def _write(self, work: Callable[[Connection], T], given_up: threading.Event) -> T:
        if given_up.is_set():
            raise GivenUp
        with self.engine.begin() as connection:
            result = work(connection)
            if given_up.is_set():
                raise GivenUp
        return result


class GivenUp(Exception):
    """Nobody waits for this transaction any more, and whoever did was told that it was not taken."""
