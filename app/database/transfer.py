"""One database into another, row for row: whatever runs goes on there, at the same deadlines."""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import migrations
from app.database.engine import create_engine
from app.database.error_mapping import mapped_errors
from app.database.tables import history, metadata

_CHUNK = 1_000


class TransferRefused(Exception):
    """Nothing was copied; the message says why."""


async def transfer(source_url: str, target_url: str) -> dict[str, int]:
    """Copy every table in one transaction; the source keeps its rows. Returns the rows of each table.

    Raises:
        TransferRefused: there is no source, somebody is at work on it, or the target is not empty.
        MigrationError, DatabaseUnavailable: one of the two cannot be used.
    """
    if source_url == target_url:
        raise TransferRefused("both are the same database")
    source, target = create_engine(source_url), create_engine(target_url)
    try:
        if source.dialect.name == "sqlite":
            await asyncio.to_thread(_take_over, Path(source.url.database or ""))
        await migrations.upgrade(source)
        await migrations.upgrade(target)
        # As a writer, though it only reads: a service that is started on it now has to wait.
        alone = source.execution_options(sqlite_begin="IMMEDIATE")
        async with mapped_errors(), alone.connect() as reading, target.begin() as writing:
            await writing.run_sync(_claim_empty)
            return {table.name: await _copy(reading, writing, table) for table in metadata.sorted_tables}
    finally:
        await source.dispose()
        await target.dispose()


def _take_over(file: Path) -> None:
    """See that the file exists and that no service runs on it: what that took meanwhile would be lost."""
    if not file.is_file():
        raise TransferRefused(f"there is no file {file.absolute()}")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        try:
            # Only who is alone with a database can take it out of WAL.
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise TransferRefused(
                f"somebody is at work on {file.absolute()}: stop the service first"
            ) from error
        except sqlite3.DatabaseError:
            # It is damaged, which the migration says better.
            return


def _claim_empty(target: Connection) -> None:
    if target.dialect.name == "postgresql":
        target.execute(text("SET LOCAL statement_timeout = 0"))
        # A service that has been started on it already waits, and finds what was copied.
        names = ", ".join(metadata.tables)
        target.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    tables = metadata.tables.items()
    full = [name for name, table in tables if target.execute(select(table).limit(1)).first()]
    if full:
        raise TransferRefused("the target is not empty: there are rows in " + ", ".join(full))


async def _copy(reading: AsyncConnection, writing: AsyncConnection, table: Table) -> int:
    copied = 0
    async with reading.stream(select(table).order_by(*table.primary_key)) as rows:
        async for chunk in rows.mappings().partitions(_CHUNK):
            await writing.execute(insert(table), [dict(row) for row in chunk])
            copied += len(chunk)
    arrived = await writing.scalar(select(func.count()).select_from(table))
    if arrived != copied:
        raise TransferRefused(f"{arrived} of {copied} rows of {table.name} arrived")
    if table is history and writing.dialect.name == "postgresql":
        await writing.run_sync(_continue_numbering)
    return copied


def _continue_numbering(target: Connection) -> None:
    last = select(func.max(history.c.id)).scalar_subquery()
    target.execute(select(func.setval("history_id_seq", func.coalesce(last, 1), last.is_not(None))))


def told(rows: dict[str, int]) -> Iterable[str]:
    """What was copied, in lines for a person."""
    width = max(map(len, rows))
    return (f"  {name:<{width}}  {count}" for name, count in rows.items())
