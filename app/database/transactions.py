"""Transactions on the database: bounded in time, and tried again where they collided with another's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import stamina
from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database.engine import create_file_engine
from app.database.error_mapping import is_worth_another_try, mapped_errors
from app.database.sqlite_threads import SqliteThreads

T = TypeVar("T")

#: Above the server's own limits, which say more: this is for a server that says nothing.
_PATIENCE_S = 6.0
_TRIES = 5
#: Threads that read a SQLite file side by side.
_READERS = 4

#: A process that stands still, or whose machine has gone, is not to be alone with anything for ever.
_ALONE_FOR = "120s"
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 2))")


class Transactions:
    """Every method raises `DatabaseUnavailable` when the database does not take it, or not in time."""

    def __init__(self, engine: AsyncEngine, *, patience_s: float = _PATIENCE_S) -> None:
        self._engine = engine
        self._file_reader: SqliteThreads | None = None
        self._file_writer: SqliteThreads | None = None
        if engine.dialect.name == "sqlite" and engine.dialect.is_async:
            file_engine = create_file_engine(engine)
            self._file_reader = SqliteThreads(file_engine, threads=_READERS)
            writing = file_engine.execution_options(sqlite_begin="IMMEDIATE")
            self._file_writer = SqliteThreads(writing, threads=1)
        # SQLite takes one writer at a time: this says when it is to begin as one.
        self._writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._patience_s = patience_s

    @property
    def is_shared(self) -> bool:
        """Whether other processes may be at work on the same database."""
        return self._engine.dialect.name != "sqlite"

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All that transactions are begun on."""
        of_file = (self._file_reader.engine,) if self._file_reader else ()
        return (self._engine.sync_engine, *of_file)

    async def close(self) -> None:
        for threads in (self._file_writer, self._file_reader):
            if threads:
                await threads.close()
        await self._engine.dispose()

    async def read(self, work: Callable[[Connection], T], *, patience_s: float | None = None) -> T:
        async def once() -> T:
            if self._file_reader:
                return await self._file_reader.run(work)
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

        return await self._tried(once, patience_s or self._patience_s)

    async def write(self, work: Callable[[Connection], T], *, patience_s: float | None = None) -> T:
        """Run `work` in one transaction, and all of it again where that is rolled back for another's."""

        async def once() -> T:
            if self._file_writer:
                return await self._file_writer.run(work)
            async with self._writer.begin() as connection:
                if patience_s and self.is_shared:
                    await connection.execute(text("SET LOCAL statement_timeout = 0"))
                return await connection.run_sync(work)

        return await self._tried(once, patience_s or self._patience_s)

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[bool]:
        """Whether this process is the only one in `name` while the block runs; it does not wait for it."""
        if not self.is_shared:
            yield True
            return
        connection, alone = await self._tried(lambda: self._try_lock(name), self._patience_s)
        try:
            yield alone
        finally:
            await _end(connection)

    async def _try_lock(self, name: str) -> tuple[AsyncConnection, bool]:
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(f"SET idle_session_timeout = '{_ALONE_FOR}'"))
            return connection, bool(await connection.scalar(_TRY_LOCK, {"name": name}))
        except BaseException:
            await _end(connection)
            raise

    async def _tried(self, once: Callable[[], Awaitable[T]], patience_s: float) -> T:
        async with mapped_errors(), asyncio.timeout(patience_s):
            # Nearly every first try is the last, and to prepare for others takes longer than it does.
            try:
                return await once()
            except Exception as error:
                if not is_worth_another_try(error):
                    raise
            async for attempt in stamina.retry_context(
                on=is_worth_another_try,
                attempts=_TRIES - 1,
                timeout=None,
                wait_initial=0.01,
                wait_max=0.5,
                wait_jitter=0.05,
            ):
                with attempt:
                    return await once()
        raise AssertionError("the last try returns or raises")


async def _end(connection: AsyncConnection) -> None:
    """A lock ends with its connection, in whatever state that is by now."""
    await connection.invalidate()
    await connection.close()
