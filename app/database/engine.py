"""Database engines for SQLite and Postgres: explicit transactions, and a limit for every wait."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

#: A replica that hangs in a transaction, or whose machine is gone, must not block the others.
_POSTGRES_LIMITS = {
    # A batch locks its rooms first: what it reads after must be of the time after the wait for the lock.
    "default_transaction_isolation": "read committed",
    "lock_timeout": "3s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
_CONNECT_TIMEOUT_S = 5

_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    # 16 MB: every batch rewrites the same pages, and a larger log copies each page back less often.
    "wal_autocheckpoint=4000",
)
_POOL_TIMEOUT_S = 5

#: Parameters of a URL that only libpq knows; asyncpg would send them to the server, which rejects them.
_FOR_LIBPQ_ALONE = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssdelegation",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "require_auth",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)


def create_engine(url: str) -> AsyncEngine:
    """Create an engine for a URL of `environment.parse_database_url`; its errors quote no values."""
    return _postgres_engine(url) if url.startswith("postgresql") else _sqlite_engine(url)


def sqlite_file(engine: AsyncEngine) -> Path | None:
    """The file of an engine; None for a server, or for a database in memory."""
    database = engine.url.database if engine.dialect.name == "sqlite" else None
    return Path(database) if database and database != ":memory:" else None


def create_file_engine(engine: AsyncEngine) -> Engine:
    """Create a synchronous engine for the same SQLite file, for use in threads."""
    url = engine.url.set(drivername="sqlite")
    # One thread may open a connection, another use or close it.
    arguments = {"check_same_thread": False}
    return _prepared(sqlalchemy.create_engine(url, connect_args=arguments, hide_parameters=True))


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_timeout=_POOL_TIMEOUT_S, hide_parameters=True)
    _prepared(engine.sync_engine)
    return engine


def _prepared(engine: Engine) -> Engine:
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # Otherwise the driver begins its own transactions, and neither savepoints nor DDL roll back.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A DEFERRED transaction that starts to write fails at once if the file is locked, without waiting.
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    # On the driver's connection: SQLAlchemy's own way costs as much as a webhook's share of a commit.
    connection.connection.execute(f"BEGIN {mode}")


def _postgres_engine(url: str) -> AsyncEngine:
    dsn, settings, timeout_s = _for_asyncpg(url)
    # asyncpg gets the URL unchanged: it reads all of libpq's forms, SQLAlchemy only some.
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"dsn": dsn, "server_settings": settings, "timeout": timeout_s},
        pool_timeout=_POOL_TIMEOUT_S,
        hide_parameters=True,
    )


def _for_asyncpg(url: str) -> tuple[str, dict[str, str], float]:
    """The URL, the server settings and the connect timeout; parameters of the URL take precedence."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    settings = {"application_name": query.pop("fallback_application_name", "agent-lifecycle")}
    settings |= {name: value for name, value in _POSTGRES_LIMITS.items() if name not in query}
    if "application_name" in query:
        del settings["application_name"]
    timeout_s = float(query.get("connect_timeout", 0)) or _CONNECT_TIMEOUT_S
    kept = {name: value for name, value in query.items() if name not in _FOR_LIBPQ_ALONE}
    # asyncpg reads a lone slash as a database with an empty name, and then ignores `?dbname=`.
    path = parts.path if parts.path != "/" else ""
    # urlunsplit would drop the empty host of `postgresql:///name`.
    address = urlunsplit(("", "", path, urlencode(kept), ""))
    return f"postgresql://{parts.netloc}{address}", settings, timeout_s
