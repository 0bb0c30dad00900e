"""Checks of the database: writable, not shared by two services, with a known schema."""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, warning
from app.database import migrations
from app.database.engine import create_engine
from app.database.file_lock import is_in_use
from app.database.migrations import MigrationError, Standing
from app.database.private_file import wider_files
from app.errors import ServiceError

#: The service commits within milliseconds: a lock that is held longer is another program's.
_PATIENCE_S = 3.0
_FAILURES = "docs/operations.md, When the database fails"


async def check_database(context: CheckContext) -> Findings:
    file = context.database_file
    if file and not file.exists():
        yield await asyncio.to_thread(_examine_folder, file)
        return
    if file:
        problem = await asyncio.to_thread(_examine_file, file)
        if problem:
            yield problem
            return
        wider = " ".join(map(str, await asyncio.to_thread(wider_files, file)))
        if wider:
            yield warning(
                f"other users may open {wider}, with the names of rooms in it",
                f"chmod 600 {wider}   (the service does it at its start, if it is the owner)",
            )
    engine = create_engine(context.config.database_url)
    try:
        await migrations.try_to_write(engine)
    except (MigrationError, ServiceError) as error:
        yield fault(
            str(error), "check DATABASE_URL: address, user, password, database, permissions; " + _FAILURES
        )
    else:
        yield ok(f"{file or 'Postgres'} is writable")
    finally:
        await engine.dispose()


async def check_sharing(context: CheckContext) -> Findings:
    """SQLite allows one service; two would take each other's agents for strays."""
    file = context.database_file
    if file is None:
        yield ok("Postgres may be shared by several replicas")
        return
    holders = await asyncio.to_thread(holders_of, file)
    if len(holders) > 1:
        numbers = " ".join(map(str, holders))
        yield fault(
            f"{len(holders)} processes have {file} open ({numbers}), but only one service may use it",
            f"ps -fp {','.join(map(str, holders))}   and stop all but one; several replicas need Postgres",
        )
    elif holders:
        yield ok(f"one process has {file} open ({holders[0]}): the service is running")
    elif await asyncio.to_thread(is_in_use, file):
        yield ok(f"a process of another user or container holds the lock of {file}: the service is running")
    else:
        yield ok(f"no other process has {file} open")


async def check_migrations(context: CheckContext) -> Findings:
    file = context.database_file
    if file and not file.exists():
        yield ok("the tables will be created at the first start")
        return
    engine = create_engine(context.config.database_url)
    try:
        standing = await migrations.standing(engine)
    except (MigrationError, ServiceError) as error:
        yield fault(
            str(error),
            "run the version that wrote it or restore a backup:  agent-lifecycle restore --from <backup>",
        )
    else:
        yield ok(_STANDINGS[standing])
    finally:
        await engine.dispose()


_STANDINGS = {
    Standing.EMPTY: "the tables will be created at the first start",
    Standing.CURRENT: "the schema is up to date",
    Standing.BEHIND: "the schema is of an older version; the next start upgrades it (a trial run succeeded)",
}


def holders_of(file: Path) -> list[int]:
    """The other processes that have the file open, as far as this user can see them."""
    wanted = file.stat() if file.exists() else None
    if wanted is None or not Path("/proc/self").exists():
        return []
    found = set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            seen = handle.stat()
        except OSError:
            # The process has ended, or is another user's.
            continue
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.add(int(handle.parts[2]))
    return sorted(found - {int(Path("/proc/self").readlink().name)})


def _examine_folder(file: Path) -> Finding:
    """Try what the service does at its first start, without leaving anything behind."""
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"\0" * 65_536)
            trial.flush()
    except OSError as error:
        return fault(
            f"{file} does not exist and cannot be created in {folder}: {error.strerror}",
            f"chown <user of the service> {folder}   or set DATABASE_URL to a writable place",
        )
    return ok(f"{file} does not exist yet and can be created")


def _examine_file(file: Path) -> Finding | None:
    """The fault, if SQLite cannot open the file as a database or lock it."""
    if not file.is_file():
        return fault(f"{file} is not a file", "set DATABASE_URL to the path of a file")
    address = f"{file.absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return _refusal(file, error)
    return None


def _refusal(file: Path, error: sqlite3.Error) -> Finding:
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        holders = holders_of(file)
        who = f" (process {', '.join(map(str, holders))})" if holders else ""
        return fault(
            f"{file} is locked by another program{who}",
            f"fuser -v {file}   and stop the program that holds it",
        )
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return fault(
            f"{file} is damaged or not an SQLite database",
            "agent-lifecycle restore --from <backup>   or move it away to start with an empty database",
        )
    return fault(
        f"{file} is not writable: {error}",
        f"chown <user of the service> {file} {file.absolute().parent}   or mount it writable; {_FAILURES}",
    )
