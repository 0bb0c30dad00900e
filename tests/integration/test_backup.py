"""Backup under load, and restore: the service continues with the TTLs that were running."""

import argparse
import asyncio
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.cli.parser import command_line
from app.database import migrations
from app.database.backup import BackupRefused, back_up, restore
from app.database.engine import create_engine
from fakes.databases import TABLES, Database, SqliteDatabase
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import App, World


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return SqliteDatabase(tmp_path / "lifecycle.db")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lifecycle.db"


@pytest.fixture
async def idle(app: App, server: FakeServer) -> App:
    """A service whose agent has just become idle, 300 s before its TTL."""
    server.start_worker("agent")
    await app.dispatch()
    server.join("room")
    await app.advance(6)
    server.leave("room")
    await app.settle()
    return app


def contents(file: Path) -> dict[str, list[dict[str, Any]]]:
    database = SqliteDatabase(file)
    return {table: database.query(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}  # noqa: S608 - our own names


@pytest.mark.usefixtures("app")
async def test_a_backup_has_no_memories_of_conversations(file: Path, tmp_path: Path) -> None:
    """It may be kept for years, and they for a day."""
    sealed = b"what was said".hex()
    SqliteDatabase(file).execute(
        f"INSERT INTO memories VALUES ('RM_1', 'agent', 'room', 'AJ_1', 1, 'key', x'{sealed}', 1, 2)"  # noqa: S608 - a test's
    )
    backup = tmp_path / "backup.db"

    back_up(file, backup)

    assert len(contents(file)["memories"]) == 1
    assert contents(backup)["memories"] == []
    assert b"what was said" not in backup.read_bytes()


async def test_a_backup_under_writes_is_consistent(
    app: App, server: FakeServer, file: Path, tmp_path: Path
) -> None:
    """The backup has every webhook answered before it began, and no partial commit."""
    server.start_worker("agent")
    await app.dispatch()
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            server.join("room", f"person-{number}")
            await app.settle()
            number += 1

    writing = asyncio.create_task(write(), name="writes")
    for number in range(5):
        before = {row["sid"] for row in SqliteDatabase(file).query("SELECT sid FROM participants")}
        copy = tmp_path / f"backup-{number}.db"
        await asyncio.to_thread(back_up, file, copy)
        rows = contents(copy)
        assert before <= {row["sid"] for row in rows["participants"]}
        # A webhook and its participant are stored in one transaction.
        assert len(rows["webhook_events"]) >= len(rows["participants"])
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    done.set()
    await writing


@pytest.mark.usefixtures("idle")
async def test_a_backup_is_one_private_file(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    os.mkdir(folder)  # noqa: PTH102 - pathlib has none that is async either
    size = back_up(file, folder / "b.db")

    assert os.listdir(folder) == ["b.db"]  # noqa: PTH208 - as above
    entry = os.stat(folder / "b.db")  # noqa: PTH116 - as above
    assert (size, stat.S_IMODE(entry.st_mode)) == (entry.st_size, 0o600)
    with closing(sqlite3.connect(folder / "b.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_restored_service_continues_with_the_running_ttls(
    idle: App, world: World, server: FakeServer, file: Path, tmp_path: Path, start_app: StartApp
) -> None:
    due_at = (await idle.status())["ttlExpiresAt"]
    copy = tmp_path / "backup.db"
    back_up(file, copy)
    saved = contents(copy)
    # Changes after the backup are lost with the file, and read from LiveKit again.
    await idle.dispatch("later")
    server.join("later", "bob")
    await idle.settle()
    await idle.stop()

    replaced = restore(copy, file)

    assert contents(file) == saved
    assert replaced == tmp_path / "lifecycle.db.replaced"
    assert {row["room_name"] for row in contents(replaced)["dispatches"]} == {"room", "later"}
    world.clock.advance(200)
    restored = await start_app()
    assert (await restored.status())["ttlExpiresAt"] == due_at
    assert await restored.state("later") == "active"
    await restored.pass_time(99)
    assert len(world.agents("room")) == 1
    await restored.pass_time(1)
    assert world.agents("room") == []
    assert len(world.agents("later")) == 1


async def test_a_restore_is_rejected_while_a_service_runs_whose_file_was_deleted(
    idle: App, file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "backup.db"
    back_up(file, copy)
    for part in SqliteDatabase(file).files():
        if part.suffix != ".lock":
            part.unlink()

    with pytest.raises(BackupRefused, match="stop the service first"):
        restore(copy, file)

    left = sorted(os.listdir(tmp_path))  # noqa: PTH208 - as above
    assert left == ["backup.db", "lifecycle.db.lock"]
    await idle.stop()


async def test_a_restore_over_a_running_service_is_rejected(
    idle: App, world: World, file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "backup.db"
    back_up(file, copy)
    before = world.tables()

    with pytest.raises(BackupRefused, match="stop the service first"):
        restore(copy, file)

    assert world.tables() == before
    assert (await idle.call("GET", "/readyz")).status == 200
    left = sorted(os.listdir(tmp_path))  # noqa: PTH208 - as above
    assert left == ["backup.db", "lifecycle.db", "lifecycle.db-shm", "lifecycle.db-wal", "lifecycle.db.lock"]


async def test_the_log_of_a_killed_service_is_not_applied_to_the_backup(
    idle: App, file: Path, tmp_path: Path
) -> None:
    """SQLite cannot check who uses a damaged file; its log is moved with it."""
    copy = tmp_path / "backup.db"
    back_up(file, copy)
    await idle.stop()
    saved = contents(copy)
    file.write_bytes(b"torn by the disk" * 512)  # noqa: ASYNC240 - nothing else runs here
    log = tmp_path / "lifecycle.db-wal"
    log.write_bytes(b"a log of the torn file")

    replaced = restore(copy, file)

    assert not log.exists()
    assert contents(file) == saved
    assert replaced
    assert replaced.read_bytes().startswith(b"torn by the disk")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a database of this service"),
        (b"nothing that SQLite knows, but long enough to be looked at" * 20, "not a SQLite database"),
    ],
)
async def test_a_file_that_is_not_a_backup_is_rejected(
    idle: App, file: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    await idle.stop()
    saved = contents(file)
    copy = tmp_path / "backup.db"
    copy.write_bytes(content)

    with pytest.raises(BackupRefused, match=said):
        restore(copy, file)

    assert contents(file) == saved


@pytest.mark.usefixtures("idle")
async def test_a_backup_does_not_overwrite_a_file(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    back_up(file, copy)
    with pytest.raises(BackupRefused, match="a backup does not overwrite files"):
        back_up(file, copy)


# The commands


def execute(*arguments: str, **environ: str) -> int:
    chosen = command_line(environ, serve).parse_args(arguments)
    exit_code: int = chosen.run(chosen, environ)
    return exit_code


def serve(_given: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    raise AssertionError("nothing is served here")


def test_the_commands_back_up_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, copy = tmp_path / "lifecycle.db", tmp_path / "backup.db"
    asyncio.run(make_database(file))

    assert execute("backup", "--to", str(copy), DATABASE_URL=str(file)) == 0
    assert "and verified" in capsys.readouterr().out
    with closing(sqlite3.connect(file)) as in_use:
        in_use.execute("PRAGMA journal_mode=WAL")
        in_use.execute("SELECT * FROM rooms")
        assert execute("restore", "--from", str(copy), DATABASE_URL=str(file)) == 1
    assert capsys.readouterr().err.startswith("Restore failed, nothing was changed: the database")
    assert execute("restore", "--from", str(copy), DATABASE_URL=str(file)) == 0
    assert f"The previous database is kept as {file}.replaced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://user@host/name", "DATABASE_URL is Postgres: use pg_dump and pg_restore"),
        ("mysql://host/name", "DATABASE_URL must be sqlite:///path/to/file or"),
        ("no.db", "there is no file"),
    ],
)
def test_a_database_that_is_not_a_file_is_rejected(
    url: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute("backup", "--to", str(tmp_path / "b.db"), DATABASE_URL=url) == 1
    assert capsys.readouterr().err.startswith(f"Backup failed: {said}")


async def make_database(file: Path) -> None:
    engine = create_engine(f"sqlite+aiosqlite:///{file}")
    await migrations.upgrade(engine)
    await engine.dispose()
