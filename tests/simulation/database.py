"""The real schema and SQL on a real SQLite file, but without threads: each await is a choice of ours.

`InlineEngine` is as much of an AsyncEngine as `app.transactions` uses. Before a transaction, before its
commit and after it stands a seam, at which the process may be killed or the database may fail.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import sqlalchemy
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import await_only, greenlet_spawn

from app.database import migrations
from app.database.engine import create_engine
from app.database.store import Store

T = TypeVar("T")
Seam = Callable[[], Awaitable[None]]


async def write_template(path: Path) -> None:
    """An empty database at the newest revision, to be copied."""
    engine = create_engine(f"sqlite+aiosqlite:///{path}")
    await migrations.upgrade(engine)
    await engine.dispose()


@dataclass
class Database:
    """The file, and what is wrong with it."""

    path: Path
    down: bool = False
    #: The next commits that fail: True, after they took effect, as where a connection broke meanwhile.
    broken_commits: list[bool] = field(default_factory=list)
    failures: int = 0
    #: SQLite takes one writer at a time. Waiting for it must not stop the only thread there is.
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Who is alone with what, among several replicas.
    alone: set[str] = field(default_factory=set)

    def fail_if_down(self) -> None:
        if self.down:
            self.failures += 1
            raise sqlite3.OperationalError("disk I/O error")

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """What is committed, asked aside."""
        with _ENGINE.connect(self.path) as connection:
            found = connection.exec_driver_sql(query, tuple(arguments))
            return [dict(row._mapping) for row in found]

    def renew(self, template: Path) -> None:
        _ENGINE.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(template, self.path)


class _SharedEngine:
    """One engine for all examples, on the file of the one that runs: compiled statements are kept."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self.sync = sqlalchemy.create_engine(
            "sqlite://", creator=self._open, poolclass=QueuePool, pool_size=0
        )
        self.writer = self.sync.execution_options(sqlite_begin="IMMEDIATE")
        event.listen(self.sync, "begin", _begin)

    def connect(self, path: Path, *, writes: bool = False) -> Connection:
        if path != self._path:
            self.close()
            self._path = path
        return (self.writer if writes else self.sync).connect()

    def close(self) -> None:
        self.sync.dispose()

    def _open(self) -> sqlite3.Connection:
        assert self._path
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.isolation_level = None
        # What survives the process is asked here, not what survives a power failure.
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "busy_timeout=0", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def _begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


_ENGINE = _SharedEngine()


class _Connection:
    def __init__(self, sync: Connection, seam: Seam) -> None:
        self._sync = sync
        self._seam = seam

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        return work(self._sync)


class _ReadingConnection(_Connection):
    """Others may go on between any two questions of one reading."""

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        return await greenlet_spawn(work, cast("Connection", _Questions(self._sync, self._seam)))


class _Questions:
    def __init__(self, sync: Connection, seam: Seam) -> None:
        self._sync = sync
        self._seam = seam

    def execute(self, statement: Any, *values: Any) -> Any:
        await_only(self._seam())
        return self._sync.execute(statement, *values)

    def scalar(self, statement: Any, *values: Any) -> Any:
        await_only(self._seam())
        return self._sync.scalar(statement, *values)


class InlineEngine:
    def __init__(self, database: Database, seam: Seam, *, writes: bool = False) -> None:
        self._database = database
        self._seam = seam
        self._writes = writes
        self.dialect = _ENGINE.sync.dialect

    def execution_options(self, *, sqlite_begin: str) -> Self:
        return type(self)(self._database, self._seam, writes=sqlite_begin == "IMMEDIATE")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_Connection]:
        await self._seam()
        self._database.fail_if_down()
        with _ENGINE.connect(self._database.path) as sync:
            yield _ReadingConnection(sync, self._seam)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[_Connection]:
        await self._seam()
        async with self._database.writing:
            self._database.fail_if_down()
            with _ENGINE.connect(self._database.path, writes=self._writes) as sync:
                transaction = sync.begin()
                try:
                    yield _Connection(sync, self._seam)
                    await self._seam()
                    broken = self._database.broken_commits.pop() if self._database.broken_commits else None
                    if broken is not None:
                        self._database.failures += 1
                    if broken is False:
                        raise sqlite3.OperationalError("disk I/O error")
                    transaction.commit()
                finally:
                    if transaction.is_active:
                        transaction.rollback()
            await self._seam()
            if broken:
                raise sqlite3.OperationalError("the connection broke during the commit")

    async def dispose(self) -> None:
        pass


class SharedStore(Store):
    """The store of one of several replicas, as on Postgres; of the only one, as on SQLite."""

    def __init__(self, database: Database, seam: Seam, *, replicas: int) -> None:
        super().__init__(cast("AsyncEngine", InlineEngine(database, seam)))
        self._database = database
        self._replicas = replicas

    async def end_dead_leases(self, now: int) -> None:
        if self._replicas == 1:
            await super().end_dead_leases(now)

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[bool]:
        if name in self._database.alone:
            yield False
            return
        self._database.alone.add(name)
        try:
            yield True
        finally:
            self._database.alone.discard(name)
