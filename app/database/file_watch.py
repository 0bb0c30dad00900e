"""Whether a SQLite file is still the one that was opened: a restart loses what goes into a deleted one."""

import asyncio
import logging
from pathlib import Path

from app.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

_PATIENCE_S = 3.0

#: Device and number of a file; None: there is no such file.
Identity = tuple[int, int] | None


class FileWatch:
    """Compares the database and its log with the ones that were there at the start; a server has neither."""

    def __init__(self, file: Path | None = None) -> None:
        self._paths = (file, file.with_name(f"{file.name}-wal")) if file else ()
        self._opened: dict[Path, Identity] = {}
        self._asked: asyncio.Future[str | None] | None = None
        #: What has happened to the file, as of the last look.
        self.problem: str | None = None

    def start(self) -> None:
        """To call while the database is open: from now on its files stay the same."""
        self._opened = {path: found for path in self._paths if (found := _identity(path))}

    async def look(self) -> None:
        """Raises: DatabaseUnavailable: a file was deleted or replaced."""
        if not self._opened:
            return
        try:
            problem = await self._ask()
        except OSError:
            # The file could not be asked for, or not in time: nothing new is known.
            problem = self.problem
        if problem and not self.problem:
            logger.error(
                "The database file is not the one that was opened",
                extra={"action": "database", "reason": problem},
            )
        elif self.problem and not problem:
            logger.warning("The database file that was opened is back", extra={"action": "database"})
        self.problem = problem
        self.require()

    async def _ask(self) -> str | None:
        """One question at a time: on a disk that hangs, each holds a thread that others need."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().run_in_executor(None, self._find_problem)
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.shield(self._asked)

    def require(self) -> None:
        """Raises: DatabaseUnavailable: the last look found a problem."""
        if self.problem:
            raise DatabaseUnavailable(self.problem)

    def require_now(self) -> None:
        """For a new connection, which would open the wrong file and apply the log of the right one to it.

        Raises:
            DatabaseUnavailable, OSError: the file is not the one that was opened, or cannot be asked for.
        """
        problem = self._find_problem()
        if problem:
            raise DatabaseUnavailable(problem)

    def _find_problem(self) -> str | None:
        for path, opened in self._opened.items():
            found = _identity(path)
            if found != opened:
                # Anybody can read this at /readyz: without the folder.
                happened = "replaced" if found else "deleted"
                return (
                    f"The file {path.name} was {happened} while the service runs, so nothing more is stored."
                    " Put it back, or restart the service"
                )
        return None


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
