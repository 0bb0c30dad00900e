"""The schema at its newest revision, whoever starts first."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.error_mapping import is_damage, mapped_errors
from app.errors import DatabaseUnavailable

#: Any number, as long as it is always the same: all who migrate one database wait for each other.
_LOCK_ID = 7_310_114


class MigrationError(Exception):
    """The database cannot be brought to this version's schema, or cannot be used at all."""


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the database to the newest revision, in one transaction.

    Raises:
        MigrationError: it is damaged, at a revision that this version does not know, or does not let us in.
        DatabaseUnavailable: it cannot be reached now.
    """
    file = _sqlite_file(engine)
    if file:
        await asyncio.to_thread(_inspect, file)
    async with _explained(file), _writer(engine).begin() as connection:
        await connection.run_sync(_upgrade)


class Standing(StrEnum):
    """A database's schema, seen from this version."""

    EMPTY = "empty"
    BEHIND = "behind"
    CURRENT = "current"


async def standing(engine: AsyncEngine) -> Standing:
    """Where the database stands; one that is behind is upgraded on trial, and nothing of that stays.

    Raises:
        MigrationError, DatabaseUnavailable: as `upgrade` would.
    """
    async with _explained(_sqlite_file(engine)), _writer(engine).connect() as connection:
        before = await connection.run_sync(_standing)
        if before is not Standing.CURRENT:
            await connection.run_sync(_upgrade)
        await connection.rollback()
    return before


async def try_to_write(engine: AsyncEngine) -> None:
    """Make a table and take it back.

    Raises:
        MigrationError, DatabaseUnavailable: the database does not let us in, or takes nothing.
    """
    async with _explained(_sqlite_file(engine)), _writer(engine).connect() as connection:
        await connection.execute(text("CREATE TABLE agent_lifecycle_trial (id INTEGER PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO agent_lifecycle_trial VALUES (1)"))
        await connection.rollback()


def _writer(engine: AsyncEngine) -> AsyncEngine:
    return engine.execution_options(sqlite_begin="IMMEDIATE")


@asynccontextmanager
async def _explained(file: Path | None) -> AsyncIterator[None]:
    """What goes wrong, in words for whoever has to mend it."""
    try:
        async with mapped_errors():
            yield
    except CommandError as error:
        raise MigrationError(
            f"the database{_at(file)} was written by a newer version of this service; run that one, or"
            " restore a backup from before its first start"
        ) from error
    except DatabaseUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) or (isinstance(cause, DBAPIError) and cause.statement is None):
            # It has not even let us in, and says why without naming anything that was asked.
            raise MigrationError(f"the database{_at(file)} cannot be opened: {_words(cause)}") from error
        raise


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Others may be migrating at this moment, and whoever does it may need long.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
    command.upgrade(alembic_config(connection), "head")


def _standing(connection: Connection) -> Standing:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return Standing.EMPTY
    heads = ScriptDirectory.from_config(alembic_config()).get_heads()
    # One that this version does not know counts as behind: the upgrade refuses it by name.
    return Standing.CURRENT if revision in heads else Standing.BEHIND


def _inspect(file: Path) -> None:
    """Open the file as SQLite does, before anybody relies on it, and let SQLite check it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(file)) as connection:
            is_sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise MigrationError(f"the database{_at(file)} cannot be opened: {error}") from error
        is_sound = False
    if not is_sound:
        raise MigrationError(_damage(file))


def _sqlite_file(engine: AsyncEngine) -> Path | None:
    database = engine.url.database if engine.dialect.name == "sqlite" else None
    return Path(database) if database and database != ":memory:" else None


def _at(file: Path | None) -> str:
    return f" {file.absolute()}" if file else ""


def _damage(file: Path | None) -> str:
    return (
        f"the file{_at(file)} is damaged, or no SQLite database. Restore a backup; or move it away, together"
        " with its -wal and -shm, to start with an empty one: agents that are in rooms are found in LiveKit"
        " and taken over, and their TTLs start anew (docs/operations.md)"
    )


def _words(cause: BaseException) -> str:
    said = getattr(cause, "orig", None) or cause
    return str(said.__cause__ or said)
