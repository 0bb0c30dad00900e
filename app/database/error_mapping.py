"""What the database's errors mean: that it cannot now, that another try will do, or that it never will."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import DatabaseUnavailable

#: SQLSTATEs, and classes of them, that say nothing about what was asked: connection, sign-in, no such
#: database, read-only, collision, resources, a lock, the operator, the system.
_OUTAGES = ("08", "28", "3D", "25006", "40", "53", "55P03", "57", "58", "XX")

#: Serialization failure and deadlock; and a unique violation, where another replica has just put in the
#: same thing: the next try sees it.
_COLLISIONS = ("40001", "40P01", "23505")

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@asynccontextmanager
async def mapped_errors() -> AsyncIterator[None]:
    """A database that cannot do it now is DatabaseUnavailable; one that never will is left as it is."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        if not _is_outage(error):
            raise
        # The statement and its parameters stay out of it: they hold names.
        raise DatabaseUnavailable(f"the database cannot take it ({reason_of(error)})") from error


def is_worth_another_try(error: Exception) -> bool:
    """Whether nothing was committed, and the same transaction may well go through at once."""
    if _sqlstate(error) in _COLLISIONS:
        return True
    # A connection from before a restart. Without a statement it was the commit, whose outcome is unknown.
    return isinstance(error, DBAPIError) and error.connection_invalidated and error.statement is not None


def is_damage(error: BaseException) -> bool:
    """Whether a file is no SQLite database, or not any more."""
    return _sqlite_name(error).startswith(_DAMAGE)


def reason_of(error: BaseException) -> str:
    """The error in one word that can be looked up, and that tells nobody's name."""
    return _sqlite_name(error) or _sqlstate(error) or type(_cause(error)).__name__


def _is_outage(error: BaseException) -> bool:
    if isinstance(_cause(error), sqlite3.OperationalError | OSError | PoolTimeoutError):
        return True
    if isinstance(error, OperationalError | InterfaceError) or is_damage(error):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return _sqlstate(error).startswith(_OUTAGES)


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def _sqlstate(error: BaseException) -> str:
    return getattr(_cause(error), "sqlstate", None) or ""


def _sqlite_name(error: BaseException) -> str:
    return getattr(_cause(error), "sqlite_errorname", None) or ""
