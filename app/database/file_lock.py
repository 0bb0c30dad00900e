"""One process for each SQLite file: a lock that ends with its holder, however that ends."""

import asyncio
import errno
import fcntl
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.engine import sqlite_file
from app.database.private_file import create_private, make_private

logger = logging.getLogger(__name__)

#: At a redeploy the old process is still stopping: platforms kill it after 10 s.
PATIENCE_S = 12.0
_POLL_S = 0.1

_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class DatabaseInUse(OSError):
    """Another process uses the file; the message says what to do."""


@asynccontextmanager
async def sole_use(engine: AsyncEngine, *, patience_s: float = PATIENCE_S) -> AsyncIterator[None]:
    """Hold the lock of a SQLite file, which exists from then on and is private; nothing to do for a server.

    Raises:
        DatabaseInUse: another process has held the lock for `patience_s`.
        OSError: the folder or the lock's file cannot be made.
    """
    file = sqlite_file(engine)
    if file is None or file.is_dir():
        # The migrations explain what is wrong with a folder.
        yield
        return
    # As SQLite does: its other files are beside the file that a link leads to.
    file = await asyncio.to_thread(file.resolve)
    await asyncio.to_thread(file.parent.mkdir, parents=True, exist_ok=True)
    with await asyncio.to_thread(_open_lock, file) as lock:
        await _acquire(lock, file, patience_s)
        await asyncio.to_thread(make_private, file)
        yield


def is_in_use(file: Path) -> bool:
    """Whether another process holds the lock of the file now, as far as this user can see."""
    path = _lock_of(file.resolve())
    try:
        # Reading suffices for a shared lock, which fails while there is an exclusive one.
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def _acquire(lock: IO[bytes], file: Path, patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    until_s, has_said_so = loop.time() + patience_s, False
    while not _try_lock(lock, file):
        if loop.time() >= until_s:
            raise DatabaseInUse(
                f"Another process uses the database {file}: stop it first. One SQLite file serves one"
                " process; several replicas need Postgres."
            )
        if not has_said_so:
            has_said_so = True
            logger.warning(
                "Another process uses the database file; waiting for its end",
                extra={"action": "start", "reason": str(file), "seconds": patience_s},
            )
        await asyncio.sleep(_POLL_S)


def _try_lock(lock: IO[bytes], file: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning(
            "The file system has no locks: nothing keeps a second process off the database file",
            extra={"action": "start", "reason": f"{file}: {error.strerror}"},
        )
    return True


def _open_lock(file: Path) -> IO[bytes]:
    path = _lock_of(file)
    create_private(path)
    return path.open("r+b")


def _lock_of(file: Path) -> Path:
    """A file of its own: to close a descriptor of the database would drop the locks that SQLite has on it."""
    return file.with_name(f"{file.name}.lock")
