"""Database transactions: bounded in time, and retried after a collision."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import stamina
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database.engine import create_file_engine, sqlite_file
from app.database.error_mapping import is_worth_a_retry, mapped_errors
from app.database.file_watch import FileWatch
from app.database.sqlite_threads import SqliteThreads

T = TypeVar("T")

#: Above the server's own limits, whose errors are clearer: this one is for a server that does not answer.
TIMEOUT_S = 6.0
_ATTEMPTS = 5
#: Threads that read a SQLite file in parallel.
_READERS = 4

#: A process that hangs, or whose machine is gone, must not hold a lock for ever.
_LOCK_TIMEOUT = "120s"
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 2))")


class Transactions:
    """Every method raises `DatabaseUnavailable` during an outage or after its timeout."""

    def __init__(self, engine: AsyncEngine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._engine = engine
        self._file_reader: SqliteThreads | None = None
        self._file_writer: SqliteThreads | None = None
        self.file = FileWatch()
        if engine.dialect.name == "sqlite" and engine.dialect.is_async:
            self.file = FileWatch(sqlite_file(engine))
            file_engine = create_file_engine(engine)
            event.listen(file_engine, "do_connect", lambda *_: self.file.require_now())
            self._file_reader = SqliteThreads(file_engine, threads=_READERS)
            writing = file_engine.execution_options(sqlite_begin="IMMEDIATE")
            self._file_writer = SqliteThreads(writing, threads=1)
        # SQLite has one writer at a time: this option takes the write lock at the begin.
        self._writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._timeout_s = timeout_s

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the same database."""
        return self._engine.dialect.name != "sqlite"

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of all transactions."""
        of_file = (self._file_reader.engine,) if self._file_reader else ()
        return (self._engine.sync_engine, *of_file)

    async def close(self) -> None:
        for threads in (self._file_writer, self._file_reader):
            if threads:
                await threads.close()
        # Only now: a connection that is returned to a pool after its disposal is never closed.
        for threads in (self._file_writer, self._file_reader):
            if threads:
                threads.engine.dispose()
        await self._engine.dispose()

    async def read(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        async def once() -> T:
            if self._file_reader:
                return await self._file_reader.run(work)
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

        return await self._retried(once, timeout_s or self._timeout_s)

    async def write(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        """Run `work` in one transaction; run it again after a rollback by a collision."""
        self.file.require()

        async def once() -> T:
            if self._file_writer:
                return await self._file_writer.run(work)
            async with self._writer.begin() as connection:
                if timeout_s and self.is_shared:
                    await connection.execute(text("SET LOCAL statement_timeout = 0"))
                return await connection.run_sync(work)

        return await self._retried(once, timeout_s or self._timeout_s)

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[bool]:
        """Try-lock: yields True if this process holds the advisory lock `name`."""
        if not self.is_shared:
            yield True
            return
        connection, locked = await self._retried(lambda: self._try_lock(name), self._timeout_s)
        try:
            yield locked
        finally:
            await _end(connection)

    async def _try_lock(self, name: str) -> tuple[AsyncConnection, bool]:
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(f"SET idle_session_timeout = '{_LOCK_TIMEOUT}'"))
            return connection, bool(await connection.scalar(_TRY_LOCK, {"name": name}))
        except BaseException:
            await _end(connection)
            raise

    async def _retried(self, once: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        async with mapped_errors(), asyncio.timeout(timeout_s):
            # The first attempt runs without stamina, whose set-up takes longer than a usual transaction.
            try:
                return await once()
            except Exception as error:
                if not is_worth_a_retry(error):
                    raise
            async for attempt in stamina.retry_context(
                on=is_worth_a_retry,
                attempts=_ATTEMPTS - 1,
                timeout=None,
                wait_initial=0.01,
                wait_max=0.5,
                wait_jitter=0.05,
            ):
                with attempt:
                    return await once()
        raise AssertionError("the last attempt returns or raises")


async def _end(connection: AsyncConnection) -> None:
    """Close the connection, in whatever state it is: that releases its lock."""
    await connection.invalidate()
    await connection.close()
