"""The copy of one database into another, with all deadlines."""

import os
import re
from pathlib import Path

import pytest

from app.database.file_lock import DatabaseInUse
from app.database.transfer import TransferRefused, transfer
from fakes.databases import TABLES, Database, PostgresDatabase, SqliteDatabase
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import App, World
from integration.process import run
from integration.reports import ReportingWorker


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """The source."""
    return SqliteDatabase(tmp_path / "lifecycle.db")


@pytest.fixture
def target(migrated_postgres: PostgresDatabase) -> PostgresDatabase:
    migrated_postgres.empty()
    return migrated_postgres


@pytest.fixture
async def idle(app: App, server: FakeServer) -> App:
    """A stopped service whose agent has just become idle, 300 s before its TTL."""
    server.start_worker("agent")
    await app.dispatch()
    server.join("room")
    await app.advance(6)
    server.leave("room")
    await app.settle()
    await app.dispatch("busy")
    server.join("busy", "bob")
    await app.settle()
    await app.service.store.sessions.add("of-the-dashboard", expires_at=1)
    worker = ReportingWorker(world=app.world, worker=server.start_worker("elsewhere"), slots=4)
    await worker.report(app)
    await app.call("POST", "/api/livekit/workers/drain", params={"deployment": "v1"})
    await app.stop()
    # A call that waited when the service was stopped, and what was learned and spent on an earlier day.
    app.world.database.execute(
        "INSERT INTO claims (id, agent_name, room_name, asked_at, expires_at) VALUES ('c', 'a', 'r', 1, 2)"
    )
    app.world.database.execute("INSERT INTO returns VALUES ('agent', 20000, 3, 2, 1)")
    app.world.database.execute(
        "INSERT INTO usage VALUES (20000, 'row', 'agent', 'room', 1, 2, 3, 4, 'expired', 5)"
    )
    app.world.database.execute(
        "INSERT INTO warm_agents (id, agent_name, deployment, state, created_at)"
        " VALUES ('w', 'agent', '', 'creating', 1)"
    )
    # What was said stays readable on the new database.
    app.world.database.execute(
        "INSERT INTO memories VALUES ('RM_1', 'agent', 'room', 'AJ_1', 1, 'key', x'00ff', 1, 2)"
    )
    # An event that waits for its receiver.
    app.world.database.execute(
        "INSERT INTO event_endpoints (name, seen_at, failures, delivered, given_up)"
        " VALUES ('http://receiver.test/', 1, 0, 0, 0)"
    )
    app.world.database.execute(
        "INSERT INTO event_deliveries (endpoint, position, room_name, queued_at, attempts, due_at)"
        " VALUES ('http://receiver.test/', 1, 'room', 1, 0, 1)"
    )
    return app


def contents(database: Database) -> dict[str, list[dict[str, object]]]:
    return {table: database.query(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}  # noqa: S608 - our own names


@pytest.mark.usefixtures("idle")
async def test_every_row_is_copied_unchanged(world: World, target: PostgresDatabase) -> None:
    before = contents(world.database)

    counts = await transfer(world.database.url, target.url)

    assert contents(target) == contents(world.database) == before
    assert counts == {table: len(rows) for table, rows in before.items()}
    assert all(counts.values())


@pytest.mark.usefixtures("idle")
async def test_a_running_ttl_expires_on_the_new_database(
    world: World, target: PostgresDatabase, start_app: StartApp
) -> None:
    world.clock.advance(200)
    await transfer(world.database.url, target.url)
    world.database = target

    moved = await start_app()
    assert (await moved.status())["state"] == "idle"
    await moved.pass_time(99)
    assert len(world.agents("room")) == 1

    await moved.pass_time(1)
    assert world.agents("room") == []
    assert await moved.state() == "none"
    # Presence was copied too, and the ids of new history and events continue after the old ones.
    assert await moved.state("busy") == "active"
    assert len(world.agents("busy")) == 1


@pytest.mark.usefixtures("idle")
async def test_the_copy_can_be_copied_back(world: World, target: PostgresDatabase, tmp_path: Path) -> None:
    await transfer(world.database.url, target.url)
    back = SqliteDatabase(tmp_path / "back.db")

    await transfer(target.url, back.url)

    assert contents(back) == contents(world.database)


@pytest.mark.usefixtures("idle")
async def test_a_target_with_rows_is_rejected(world: World, target: PostgresDatabase) -> None:
    await transfer(world.database.url, target.url)
    before = contents(target)

    with pytest.raises(TransferRefused, match=r"not empty: it has rows in .*dispatches"):
        await transfer(world.database.url, target.url)

    assert contents(target) == before


async def test_a_source_in_use_is_rejected(app: App, world: World, target: PostgresDatabase) -> None:
    with pytest.raises(TransferRefused, match="stop the service first"):
        await transfer(world.database.url, target.url)

    assert not any(contents(target).values())
    assert (await app.call("GET", "/readyz")).status == 200


async def test_a_file_that_a_running_service_has_is_no_target(app: App, world: World, tmp_path: Path) -> None:
    source = SqliteDatabase(tmp_path / "source.db")
    source.path.touch()

    with pytest.raises(DatabaseInUse, match="stop it first"):
        await transfer(source.url, world.database.url)

    assert (await app.call("GET", "/readyz")).status == 200


async def test_a_missing_source_is_rejected_and_not_created(target: PostgresDatabase, tmp_path: Path) -> None:
    with pytest.raises(TransferRefused, match="there is no file"):
        await transfer(f"sqlite+aiosqlite:///{tmp_path / 'nothing.db'}", target.url)

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib has none that is async either


async def test_a_database_is_not_copied_into_itself(world: World) -> None:
    with pytest.raises(TransferRefused, match="the same"):
        await transfer(world.database.url, world.database.url)


# The command


@pytest.mark.usefixtures("idle")
async def test_the_command_copies_and_prints_the_next_step(world: World, target: PostgresDatabase) -> None:
    assert isinstance(world.database, SqliteDatabase)
    ended = await run("copy-database", "--from", f"sqlite:///{world.database.path}", DATABASE_URL=target.url)

    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^  dispatches +2$", ended.out, re.MULTILINE)
    assert "set DATABASE_URL to the new database" in ended.out
    assert contents(target) == contents(world.database)


async def test_a_failed_command_prints_its_reason_in_one_line(tmp_path: Path) -> None:
    ended = await run(
        "copy-database", "--from", f"sqlite:///{tmp_path}/no.db", "--to", f"sqlite:///{tmp_path}/new.db"
    )

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"Copy failed, nothing was copied: there is no file {tmp_path}/no.db\n"


async def test_a_command_without_its_source_prints_its_usage() -> None:
    ended = await run("copy-database")

    assert ended.code == 2
    assert "--from URL" in ended.err
