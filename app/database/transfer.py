"""Copy of one database into another, row by row, with all deadlines."""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import migrations
from app.database.backup import require_unused
from app.database.engine import create_engine
from app.database.error_mapping import mapped_errors
from app.database.event_tables import events
from app.database.file_lock import sole_use
from app.database.tables import history, metadata

_CHUNK = 1_000
#: Their rows are numbered by the database.
_NUMBERED = (events, history)


class TransferRefused(Exception):
    """Nothing was copied; the message gives the reason."""


async def transfer(source_url: str, target_url: str) -> dict[str, int]:
    """Copy every table in one transaction; the source keeps its rows. Returns the row count of each table.

    Raises:
        TransferRefused: the source does not exist or is in use, or the target is not empty.
        DatabaseInUse: a service uses the target.
        MigrationError, DatabaseUnavailable: one of the two databases cannot be used.
    """
    if source_url == target_url:
        raise TransferRefused("source and target are the same database")
    source, target = create_engine(source_url), create_engine(target_url)
    try:
        if source.dialect.name == "sqlite":
            await asyncio.to_thread(_require_source, Path(source.url.database or ""))
        await migrations.upgrade(source)
        async with sole_use(target, patience_s=0):
            return await _fill(source, target)
    finally:
        await source.dispose()
        await target.dispose()


async def _fill(source: AsyncEngine, target: AsyncEngine) -> dict[str, int]:
    await migrations.upgrade(target)
    # With the write lock, although it only reads: a service started on the source now has to wait.
    locked = source.execution_options(sqlite_begin="IMMEDIATE")
    async with mapped_errors(), locked.connect() as reading, target.begin() as writing:
        await writing.run_sync(_claim_empty)
        return {table.name: await _copy(reading, writing, table) for table in metadata.sorted_tables}


def _require_source(file: Path) -> None:
    """Check that the file exists and that no service uses it: its later commits would be lost."""
    if not file.is_file():
        raise TransferRefused(f"there is no file {file.absolute()}")
    require_unused(file, TransferRefused)


def _claim_empty(target: Connection) -> None:
    if target.dialect.name == "postgresql":
        target.execute(text("SET LOCAL statement_timeout = 0"))
        # A service already started on the target waits, and then reads the copied rows.
        names = ", ".join(metadata.tables)
        target.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    tables = metadata.tables.items()
    full = [name for name, table in tables if target.execute(select(table).limit(1)).first()]
    if full:
        raise TransferRefused("the target is not empty: it has rows in " + ", ".join(full))


async def _copy(reading: AsyncConnection, writing: AsyncConnection, table: Table) -> int:
    copied = 0
    async with reading.stream(select(table).order_by(*table.primary_key)) as rows:
        async for chunk in rows.mappings().partitions(_CHUNK):
            await writing.execute(insert(table), [dict(row) for row in chunk])
            copied += len(chunk)
    arrived = await writing.scalar(select(func.count()).select_from(table))
    if arrived != copied:
        raise TransferRefused(f"only {arrived} of {copied} rows of {table.name} were stored")
    if table in _NUMBERED and writing.dialect.name == "postgresql":
        await writing.run_sync(partial(_continue_numbering, table))
    return copied


def _continue_numbering(table: Table, target: Connection) -> None:
    last = select(func.max(table.c.id)).scalar_subquery()
    sequence = f"{table.name}_id_seq"
    target.execute(select(func.setval(sequence, func.coalesce(last, 1), last.is_not(None))))


def told(rows: dict[str, int]) -> Iterable[str]:
    """One line of text for each table."""
    width = max(map(len, rows))
    return (f"  {name:<{width}}  {count}" for name, count in rows.items())
