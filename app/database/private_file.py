"""The SQLite file and what lies beside it: for its owner alone, because it holds names and rooms."""

import logging
import stat
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

PRIVATE = 0o600
_WIDER = 0o077
#: SQLite gives its log the permissions of the database; one that a crash has left may have others.
SUFFIXES = ("", "-wal", "-shm", ".lock")


def create_private(path: Path) -> None:
    """Create an empty file that others can never open; one that exists stays as it is."""
    with suppress(FileExistsError):
        path.touch(mode=PRIVATE, exist_ok=False)


def make_private(file: Path) -> None:
    """Create the database's file, or take the permissions of others away from it and its log."""
    create_private(file)
    for path in wider_files(file):
        try:
            path.chmod(PRIVATE)
        except OSError as error:
            logger.warning(
                "Other users may be able to read the database, and this process cannot change that",
                extra={"action": "start", "reason": f"{path}: {error.strerror}"},
            )
        else:
            logger.info(
                "Other users had access to a file of the database; now only its owner has",
                extra={"action": "start", "reason": str(path)},
            )


def wider_files(file: Path) -> list[Path]:
    """The files of a database that others than their owner can use."""
    paths = (file.with_name(file.name + suffix) for suffix in SUFFIXES)
    return [path for path in paths if path.exists() and stat.S_IMODE(path.stat().st_mode) & _WIDER]
