"""A database that fails when a test wants it to."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.store import Store
from app.state.changes import Change, Outcome
from app.state.unit_of_work import UnitOfWork

#: For what has a limit of seconds in production: on a busy machine a test of anything else would hit it. A
#: transaction has taken over 6 s, with two stacks, a browser and a busy loop on two cores.
PATIENCE_S = 60


class HeldCommits:
    """Commits that wait before they begin."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self.free = asyncio.Event()

    async def begun(self) -> None:
        """Wait until one waits."""
        async with asyncio.timeout(PATIENCE_S):
            await self._begun.wait()

    async def pass_by(self) -> None:
        self._begun.set()
        await self.free.wait()


class DatabaseFaults:
    """`down`: no transaction can begin, as on a disk that has gone. On SQLite further, by its own means:
    `full`: the file may not grow; `read_only`: nothing may be written.
    """

    def __init__(self) -> None:
        self.down = False
        self.full = False
        self.read_only = False
        #: How many changes each transaction was asked to take.
        self.asked_to_commit: list[int] = []
        #: None: no commit is held.
        self.held: HeldCommits | None = None

    @contextmanager
    def holding(self) -> Iterator[HeldCommits]:
        """Hold all commits that come within the block, until its end."""
        held = self.held = HeldCommits()
        try:
            yield held
        finally:
            self.held = None
            held.free.set()

    def store_type(self) -> type[Store]:
        """A Store, for `create_app`, that these faults befall."""
        faults = self

        class FailingStore(Store):
            def __init__(self, engine: AsyncEngine) -> None:
                super().__init__(engine, timeout_s=PATIENCE_S)
                for one in self.engines:
                    event.listen(one, "begin", faults.check)
                    if one.dialect.name == "sqlite":
                        event.listen(one, "checkout", faults.limit)

            async def commit(
                self, changes: Sequence[Change], new_unit: Callable[[], UnitOfWork]
            ) -> list[Outcome]:
                faults.asked_to_commit.append(len(changes))
                if faults.held:
                    await faults.held.pass_by()
                return await super().commit(changes, new_unit)

        return FailingStore

    def check(self, _connection: Connection) -> None:
        if self.down:
            raise sqlite3.OperationalError("disk I/O error")

    def limit(self, dbapi_connection: Any, *_: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA query_only = {int(self.read_only)}")
        # 1 is less than there are: SQLite takes it for as many as there are.
        cursor.execute(f"PRAGMA max_page_count = {1 if self.full else 2**31}")
        cursor.close()
