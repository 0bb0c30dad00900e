"""A SQLite file that is deleted or replaced under the running service: what is acknowledged is not lost."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.database.file_watch import FileWatch
from app.errors import DatabaseUnavailable
from fakes.databases import SqliteDatabase
from fakes.webhooks import SignedWebhook
from integration.harness import App, World

NOTICED = "The database file is not the one that was opened"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lifecycle.db"


@pytest.fixture
def away(tmp_path: Path) -> Path:
    return tmp_path / "away"


def delete(file: Path, away: Path) -> None:
    file.rename(away)


def replace_by_a_copy(file: Path, away: Path) -> None:
    file.rename(away)
    shutil.copy(away, file)


def delete_its_log(file: Path, away: Path) -> None:
    file.with_name(f"{file.name}-wal").rename(away)


def put_back(file: Path, away: Path) -> None:
    away.rename(file)


def put_its_log_back(file: Path, away: Path) -> None:
    away.rename(file.with_name(f"{file.name}-wal"))


def joined(world: World, name: str) -> SignedWebhook:
    world.livekit.server.join("room", name)
    return world.post.take()[-1]


@pytest.mark.parametrize(
    ("lose", "mend", "said"),
    [
        (delete, put_back, "The file lifecycle.db was deleted"),
        (replace_by_a_copy, put_back, "The file lifecycle.db was replaced"),
        (delete_its_log, put_its_log_back, "The file lifecycle.db-wal was deleted"),
    ],
)
async def test_a_lost_file_takes_no_commit_until_it_is_back(
    app: App,
    world: World,
    file: Path,
    away: Path,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[Path, Path], None],
    mend: Callable[[Path, Path], None],
    said: str,
) -> None:
    assert (await app.deliver(joined(world, "alice"))).status == 200
    lose(file, away)
    for _ in range(2):
        await app.service.sweeper.sweep()
        await app.service.alert_monitor.look()

    webhook = joined(world, "bob")
    answer = await app.deliver(webhook)
    assert (answer.status, answer.code) == (503, "database_unavailable")
    assert said in answer.body["message"]
    assert (await app.dispatch()).code == "database_unavailable"
    readiness = await app.call("GET", "/readyz", auth=None)
    assert (readiness.status, readiness.body["database"]) == (503, answer.body["message"])
    assert str(file.parent) not in readiness.body["database"]
    assert app.service.alert_monitor.active["database_replaced"] == 1
    errors = [record for record in caplog.records if record.message == NOTICED]
    assert [record.levelname for record in errors] == ["ERROR"]

    mend(file, away)
    assert (await app.call("GET", "/readyz")).status == 200
    assert (await app.deliver(webhook)).status == 200
    await app.stop()
    assert len(world.rows("participants")) == 2


async def test_readiness_notices_it_between_two_rounds(app: App, file: Path, away: Path) -> None:
    delete(file, away)

    assert (await app.call("GET", "/readyz")).status == 503


async def test_no_connection_opens_another_file_in_its_place(app: App, file: Path, away: Path) -> None:
    """SQLite would create it, and delete the log of the right one."""
    delete(file, away)
    await asyncio.gather(*(app.call("GET", "/api/livekit/agents") for _ in range(20)))

    assert not any(path == file for path in SqliteDatabase(file).files())
    put_back(file, away)
    assert (await app.call("GET", "/readyz")).status == 200


async def test_a_file_that_cannot_be_asked_for_is_not_taken_for_deleted(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, **_: object) -> None:
        raise PermissionError

    file.write_bytes(b"")  # noqa: ASYNC240 - nothing else runs
    watch = FileWatch(file)
    watch.start()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refuse)
        await watch.look()
    file.unlink()  # noqa: ASYNC240 - nothing else runs
    with pytest.raises(DatabaseUnavailable, match="deleted"):
        await watch.look()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refuse)
        with pytest.raises(DatabaseUnavailable, match="deleted"):
            await watch.look()
