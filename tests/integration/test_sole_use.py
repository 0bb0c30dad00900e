"""A SQLite file has one process, and nobody else can open it."""

import asyncio
import errno
import fcntl
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.doctor.database import holders_of
from app.database.engine import create_engine
from app.database.file_lock import DatabaseInUse, is_in_use, sole_use
from devstack.truth import eventually
from fakes.databases import SqliteDatabase
from integration.harness import BOUND_S, App
from integration.process import run, running

WAITS = "Another process uses the database file; waiting for its end"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lifecycle.db"


@pytest.fixture
async def engine(file: Path) -> AsyncIterator[AsyncEngine]:
    made = create_engine(SqliteDatabase(file).url)
    yield made
    await made.dispose()


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Whatever is made has the permissions that its maker asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def make_wide(file: Path) -> None:
    file.touch()
    file.chmod(0o644)


# One process


async def test_a_second_service_on_the_file_waits_and_is_then_refused(file: Path) -> None:
    async with running(DATABASE_URL=f"sqlite:///{file}") as service:
        ended = await run(DATABASE_URL=f"sqlite:///{file}")
        assert await service.get("/healthz") == 200

    assert (ended.code, ended.err) == (1, "")
    waited, refused = map(json.loads, ended.out.splitlines())
    assert (waited["message"], waited["reason"]) == (WAITS, str(file))
    assert refused["message"] == "The service cannot start"
    assert str(file) in refused["reason"]
    assert (
        "stop it first. One SQLite file serves one process; several replicas need Postgres."
        in refused["reason"]
    )


async def test_a_killed_service_leaves_no_lock(file: Path) -> None:
    async with running(DATABASE_URL=f"sqlite:///{file}") as service:
        assert is_in_use(file)
        service.process.kill()
        await service.process.wait()
        assert not is_in_use(file)
        async with running(DATABASE_URL=f"sqlite:///{file}") as successor:
            assert await successor.get("/healthz") == 200


async def test_a_service_that_stops_hands_the_file_over(
    engine: AsyncEngine, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def follow() -> None:
        async with sole_use(engine, patience_s=BOUND_S):
            assert is_in_use(file)

    async def waits() -> bool:
        return WAITS in caplog.messages

    async with sole_use(engine):
        following = asyncio.create_task(follow())
        await eventually(waits, "it waits")
        assert not following.done()
    await following
    assert not is_in_use(file)


async def test_the_lock_lasts_until_the_database_is_closed(app: App, file: Path) -> None:
    assert is_in_use(file)
    await app.stop()
    assert not is_in_use(file)


async def test_two_names_of_one_file_have_one_lock(engine: AsyncEngine, file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(file)
    async with sole_use(engine):
        with pytest.raises(DatabaseInUse, match=str(file)):
            async with sole_use(create_engine(SqliteDatabase(link).url), patience_s=0):
                pytest.fail("both have it")


async def test_the_commands_work_beside_a_running_service(file: Path, tmp_path: Path) -> None:
    async with running(DATABASE_URL=f"sqlite:///{file}") as service:
        copied = await run("backup", "--to", str(tmp_path / "backup.db"), DATABASE_URL=f"sqlite:///{file}")
        assert copied.code == 0
        assert holders_of(file) == [service.pid]


async def test_a_file_system_without_locks_is_warned_of(
    engine: AsyncEngine, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    async with sole_use(engine):
        assert "lifecycle.db" in modes(file.parent)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (
        record.message == "The file system has no locks: nothing keeps a second process off the database file"
    )


# Nobody else


@pytest.mark.usefixtures("open_umask")
async def test_the_file_is_its_owners_alone_before_anything_is_in_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    async with sole_use(engine):
        assert modes(tmp_path) == {"lifecycle.db": "0o600", "lifecycle.db.lock": "0o600"}


@pytest.mark.usefixtures("open_umask")
async def test_the_log_of_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "lifecycle.db"
    async with running(DATABASE_URL=f"sqlite:///{file}"):
        found = modes(file.parent)
    assert set(found) == {"lifecycle.db", "lifecycle.db-wal", "lifecycle.db-shm", "lifecycle.db.lock"}
    assert set(found.values()) == {"0o600"}


async def test_a_file_that_others_can_open_is_narrowed(
    engine: AsyncEngine, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_wide(file)
    make_wide(tmp_path / "lifecycle.db-wal")
    async with sole_use(engine):
        assert set(modes(tmp_path).values()) == {"0o600"}
    assert str(file) in {vars(record)["reason"] for record in caplog.records}


async def test_a_file_of_another_owner_is_warned_of(
    engine: AsyncEngine, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    make_wide(file)
    monkeypatch.setattr(Path, "chmod", refuse)
    async with sole_use(engine):
        pass
    (record,) = caplog.records
    assert (record.levelname, vars(record)["reason"]) == ("WARNING", f"{file}: Operation not permitted")
