"""The database engine: transactions that are what they say, on SQLite as on Postgres, and none that hangs."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

#: A replica that stands still in a transaction, or whose machine has gone, is not to hold up the others.
_POSTGRES_LIMITS = {
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
    # 16 MB: of the pages that every batch writes again, each is copied from the log once in so many.
    "wal_autocheckpoint=4000",
)
_POOL_TIMEOUT_S = 5

#: What libpq's form of a URL may say to libpq; asyncpg would pass it on to the server, which refuses it.
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
    """An engine for what `settings.parse_database_url` returns; its errors quote no values."""
    return _postgres_engine(url) if url.startswith("postgresql") else _sqlite_engine(url)


def create_file_engine(engine: AsyncEngine) -> Engine:
    """An engine for the same SQLite file, to be used in threads."""
    url = engine.url.set(drivername="sqlite")
    # A thread that opens a connection need not be the one that uses or closes it.
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
    # Without this the driver begins transactions of its own, and neither savepoints nor DDL roll back.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # DEFERRED would fail at once, not wait, where a reader becomes a writer.
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _postgres_engine(url: str) -> AsyncEngine:
    dsn, settings, timeout_s = _for_asyncpg(url)
    # The address goes to asyncpg as it is: it reads libpq's forms, SQLAlchemy only some of them.
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"dsn": dsn, "server_settings": settings, "timeout": timeout_s},
        pool_timeout=_POOL_TIMEOUT_S,
        hide_parameters=True,
    )


def _for_asyncpg(url: str) -> tuple[str, dict[str, str], float]:
    """The address, the server's settings, and how long to try to connect; the URL's own wishes come first."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    settings = {"application_name": query.pop("fallback_application_name", "agent-lifecycle")}
    settings |= {name: value for name, value in _POSTGRES_LIMITS.items() if name not in query}
    if "application_name" in query:
        del settings["application_name"]
    timeout_s = float(query.get("connect_timeout", 0)) or _CONNECT_TIMEOUT_S
    kept = {name: value for name, value in query.items() if name not in _FOR_LIBPQ_ALONE}
    # For asyncpg a lone slash names a database, the one without a name, before `?dbname=` can.
    path = parts.path if parts.path != "/" else ""
    # `postgresql:///name` would lose its empty host in urlunsplit.
    address = urlunsplit(("", "", path, urlencode(kept), ""))
    return f"postgresql://{parts.netloc}{address}", settings, timeout_s
