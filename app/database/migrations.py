"""Schema migrations, safe when several processes start at once."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from enum import StrEnum
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.engine import sqlite_file
from app.database.error_mapping import is_damage, mapped_errors
from app.errors import DatabaseUnavailable

#: An arbitrary constant: processes that migrate the same database wait for each other.
_LOCK_ID = 7_310_114
#: How long the others wait for a process that hangs while it migrates.
_IDLE_LIMIT_S = 120


class MigrationError(Exception):
    """The database cannot be migrated to this version's schema, or cannot be used at all."""


async def upgrade(engine: AsyncEngine) -> None:
    """Migrate the database to the newest revision, in one transaction.

    Raises:
        MigrationError: it is damaged, has a revision unknown to this version, or rejects the sign-in.
        DatabaseUnavailable: it is not reachable now.
    """
    file = sqlite_file(engine)
    if file:
        await asyncio.to_thread(_inspect, file)
    async with _explained(file), _writer(engine).begin() as connection:
        await connection.run_sync(_upgrade)


class Standing(StrEnum):
    """The state of a schema compared with this version."""

    EMPTY = "empty"
    BEHIND = "behind"
    CURRENT = "current"


async def standing(engine: AsyncEngine) -> Standing:
    """The state of the schema; one that is behind is upgraded and rolled back, as a trial.

    Raises:
        MigrationError, DatabaseUnavailable: as `upgrade` would.
    """
    async with _explained(sqlite_file(engine)), _writer(engine).connect() as connection:
        before = await connection.run_sync(_upgrade)
        await connection.rollback()
    return before


async def try_to_write(engine: AsyncEngine) -> None:
    """Create a table and roll it back.

    Raises:
        MigrationError, DatabaseUnavailable: the database rejects the sign-in or the write.
    """
    async with _explained(sqlite_file(engine)), _writer(engine).connect() as connection:
        await connection.execute(text("CREATE TABLE agent_lifecycle_trial (id INTEGER PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO agent_lifecycle_trial VALUES (1)"))
        await connection.rollback()


def _writer(engine: AsyncEngine) -> AsyncEngine:
    return engine.execution_options(sqlite_begin="IMMEDIATE")


@asynccontextmanager
async def _explained(file: Path | None) -> AsyncIterator[None]:
    """Turn errors into messages for the operator who has to fix them."""
    try:
        async with mapped_errors():
            yield
    except CommandError as error:
        raise MigrationError(
            f"The database{_at(file)} was written by a newer version of this service. Run that version, or"
            " restore a backup from before its first start."
        ) from error
    except DatabaseUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) or (isinstance(cause, DBAPIError) and cause.statement is None):
            # The connection failed; its message gives the reason and holds no statement.
            raise MigrationError(f"The database{_at(file)} cannot be opened: {_reason(cause)}") from error
        raise


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> Standing:
    """Upgrade a schema that is not current; returns its state before."""
    before = _standing(connection)
    if before is Standing.CURRENT:
        return before
    if connection.dialect.name == "postgresql":
        # Another process may be migrating now, and may take long.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        # Between two statements Alembic loads its scripts: on a slow or halted machine that takes long.
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_LIMIT_S}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
    command.upgrade(alembic_config(connection), "head")
    return before


def _standing(connection: Connection) -> Standing:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return Standing.EMPTY
    # An unknown revision counts as behind: the upgrade rejects it with its name.
    return Standing.CURRENT if revision == _newest() else Standing.BEHIND


@cache
def _newest() -> str | None:
    """The newest revision; to find it, Alembic loads every script."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def _inspect(file: Path) -> None:
    """Open the file and let SQLite check it, before the service relies on it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(file)) as connection:
            is_sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise MigrationError(f"The database{_at(file)} cannot be opened: {error}") from error
        is_sound = False
    if not is_sound:
        raise MigrationError(_damage(file))


def _at(file: Path | None) -> str:
    return f" {file.absolute()}" if file else ""


def _damage(file: Path | None) -> str:
    return (
        f"The file{_at(file)} is damaged or not a SQLite database. Restore a backup. Or move the file away,"
        " together with its -wal and -shm, to start with an empty database: the service finds the agents"
        " that are in rooms in LiveKit and takes them over, and their TTLs restart (docs/operations.md)."
    )


def _reason(cause: BaseException) -> str:
    original = getattr(cause, "orig", None) or cause
    return str(original.__cause__ or original)
