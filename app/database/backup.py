"""A copy of the SQLite file that can be relied on, made while a service writes; and the way back."""

import sqlite3
from contextlib import closing
from pathlib import Path

#: Names and rooms are in it.
_PRIVATE = 0o600
_TABLES_OF_OURS = frozenset({"alembic_version", "dispatches", "rooms"})


class BackupRefused(Exception):
    """Nothing was changed; the message says why."""


def back_up(database: Path, target: Path) -> int:
    """Copy everything that is committed at one moment into one file; returns its size in bytes.

    Raises:
        BackupRefused: there is no such database, or something stands at the target.
        sqlite3.Error, OSError: it could not be read or written; nothing is left at the target.
    """
    if not database.is_file():
        raise BackupRefused(f"there is no file {database.absolute()}")
    if target.exists():
        raise BackupRefused(f"{target} exists; a backup replaces nothing")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        _copy(database, unfinished)
        _check(unfinished)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size


def restore(backup: Path, database: Path) -> Path | None:
    """Put a backup in the place of the database; returns where that was moved to, if there was one.

    Raises:
        BackupRefused: the backup is none of ours, or a service is at work on the database.
        sqlite3.Error, OSError: it could not be read or written; the database is where it was.
    """
    if not backup.is_file():
        raise BackupRefused(f"there is no file {backup.absolute()}")
    _check(backup)
    replaced = database.with_name(f"{database.name}.replaced")
    if replaced.exists():
        raise BackupRefused(f"{replaced} exists, from an earlier restore; move it away first")
    database.parent.mkdir(parents=True, exist_ok=True)
    incoming = database.with_name(f"{database.name}.restoring")
    try:
        # Through SQLite, and not as a file: the backup may be a database in use itself.
        _copy(backup, incoming)
        was_there = database.exists()
        if was_there:
            _see_that_nobody_is_at_work(database)
            _move_with_its_log(database, replaced)
        incoming.rename(database)
    finally:
        incoming.unlink(missing_ok=True)
    return replaced if was_there else None


def _copy(source: Path, target: Path) -> None:
    target.touch(mode=_PRIVATE)
    with closing(_open_existing(source)) as reading, closing(sqlite3.connect(target)) as writing:
        # All pages in one step: what is committed meanwhile is not in it, and does not make it begin anew.
        reading.backup(writing, pages=-1)
        # With its write-ahead log it would be two files, one of which is always forgotten.
        writing.execute("PRAGMA journal_mode=DELETE")


def _check(file: Path) -> None:
    """Raises: BackupRefused: SQLite finds a fault in the file, or it is another program's."""
    try:
        with closing(_open_existing(file)) as connection:
            is_sound = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise BackupRefused(f"{file} is damaged, or no SQLite database ({error})") from error
    if not is_sound:
        raise BackupRefused(f"{file} is damaged")
    if not tables >= _TABLES_OF_OURS:
        raise BackupRefused(f"{file} is no database of this service's")


def _see_that_nobody_is_at_work(database: Path) -> None:
    try:
        with closing(_open_existing(database)) as connection:
            # Only who is alone with a database can take it out of WAL; and what stood there is in the file.
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        raise BackupRefused(
            f"somebody is at work on {database.absolute()}: stop the service first"
        ) from error
    except sqlite3.DatabaseError:
        # It is damaged, which may be why somebody restores.
        return


def _move_with_its_log(database: Path, target: Path) -> None:
    """A log that was left beside the file, by damage or a crash, would be taken for the backup's."""
    for suffix in ("-wal", "-shm", ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))


def _open_existing(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
