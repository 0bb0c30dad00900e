"""Backup of the SQLite file while the service runs, and restore."""

import sqlite3
from contextlib import closing
from pathlib import Path

from app.database.file_lock import is_in_use
from app.database.private_file import create_private

_SOME_OF_THE_TABLES = frozenset({"alembic_version", "dispatches", "rooms"})


class BackupRefused(Exception):
    """Nothing was changed; the message gives the reason."""


def back_up(database: Path, target: Path) -> int:
    """Copy what is committed at one moment into one file, but no memories; returns its size in bytes.

    Raises:
        BackupRefused: the database does not exist, or the target does.
        sqlite3.Error, OSError: a file could not be read or written; no target file is left.
    """
    if not database.is_file():
        raise BackupRefused(f"there is no file {database.absolute()}")
    if target.exists():
        raise BackupRefused(f"{target} exists; a backup does not overwrite files")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        _copy(database, unfinished)
        _check(unfinished)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size


def restore(backup: Path, database: Path) -> Path | None:
    """Replace the database with a backup; returns the path that the old database was moved to, if any.

    Raises:
        BackupRefused: the backup is not usable, or a service uses the database.
        sqlite3.Error, OSError: a file could not be read or written; the database is unchanged.
    """
    if not backup.is_file():
        raise BackupRefused(f"there is no file {backup.absolute()}")
    _check(backup)
    replaced = database.with_name(f"{database.name}.replaced")
    if replaced.exists():
        raise BackupRefused(f"{replaced} exists from an earlier restore; move it away first")
    database.parent.mkdir(parents=True, exist_ok=True)
    incoming = database.with_name(f"{database.name}.restoring")
    if is_in_use(database):
        # Its file may be missing, and is then not in SQLite's use either.
        raise BackupRefused(f"a service uses the database {database.absolute()}: stop the service first")
    try:
        # Through SQLite, not as a file: the backup may be a database in use.
        _copy(backup, incoming)
        existed = database.exists()
        if existed:
            require_unused(database, BackupRefused)
            _move_with_its_log(database, replaced)
        incoming.rename(database)
    finally:
        incoming.unlink(missing_ok=True)
    return replaced if existed else None


def require_unused(database: Path, refused: type[Exception]) -> None:
    """Check that no service uses the file, and empty its write-ahead log; else raise `refused`."""
    try:
        with closing(_open_existing(database)) as connection:
            # SQLite leaves WAL mode only if no other connection is open.
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        raise refused(f"the database {database.absolute()} is in use: stop the service first") from error
    except sqlite3.DatabaseError:
        # The file is damaged: for a restore that is no obstacle, and a migration reports it better.
        return


def _copy(source: Path, target: Path) -> None:
    create_private(target)
    with closing(_open_existing(source)) as reading, closing(sqlite3.connect(target)) as writing:
        # All pages in one step: later commits are not included and do not restart the copy.
        reading.backup(writing, pages=-1)
        _forget_memories(writing)
        # In WAL mode the backup would be two files, and the second one is easily forgotten.
        writing.execute("PRAGMA journal_mode=DELETE")


def _forget_memories(connection: sqlite3.Connection) -> None:
    """A backup would keep them for longer than they may be kept."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'memories'").fetchone():
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("DELETE FROM memories")
        connection.commit()


def _check(file: Path) -> None:
    """Raises: BackupRefused: SQLite finds the file damaged, or it belongs to another program."""
    try:
        with closing(_open_existing(file)) as connection:
            is_sound = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise BackupRefused(f"{file} is damaged or not a SQLite database ({error})") from error
    if not is_sound:
        raise BackupRefused(f"{file} is damaged")
    if not tables >= _SOME_OF_THE_TABLES:
        raise BackupRefused(f"{file} is not a database of this service")


def _move_with_its_log(database: Path, target: Path) -> None:
    """Move the log too: SQLite would apply a log left by damage or a crash to the backup."""
    for suffix in ("-wal", "-shm", ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))


def _open_existing(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
