"""Classification of database errors: outages, errors worth a retry, and bugs."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import DatabaseUnavailable

#: SQLSTATEs, and classes of them, that do not depend on the statement: connection, sign-in, no such
#: database, read-only, collision, resources, a lock, the operator, the system.
_OUTAGES = ("08", "28", "3D", "25006", "40", "53", "55P03", "57", "58", "XX")

#: Serialization failure and deadlock; and a unique violation, when another replica just inserted the
#: same row: the retry sees it.
_COLLISIONS = ("40001", "40P01", "23505")

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@asynccontextmanager
async def mapped_errors() -> AsyncIterator[None]:
    """Raise DatabaseUnavailable for an outage; other errors pass through unchanged."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        if not _is_outage(error):
            raise
        # Without the statement and its parameters: they hold names.
        raise DatabaseUnavailable(f"The database is not available ({reason_of(error)})") from error


def is_worth_a_retry(error: Exception) -> bool:
    """Whether nothing was committed, and the same transaction may succeed at once."""
    if _sqlstate(error) in _COLLISIONS:
        return True
    # A connection from before a restart. Without a statement it failed in the commit: outcome unknown.
    return isinstance(error, DBAPIError) and error.connection_invalidated and error.statement is not None


def is_damage(error: BaseException) -> bool:
    """Whether the file is damaged or not a SQLite database."""
    return _sqlite_name(error).startswith(_DAMAGE)


def reason_of(error: BaseException) -> str:
    """The code or class of the error: searchable, and free of personal data."""
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
