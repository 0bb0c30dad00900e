"""The move from one database to another: what runs goes on there, at the same deadlines."""

import os
from pathlib import Path

import pytest

from app.database.transfer import TransferRefused, transfer
from fakes.databases import TABLES, Database, PostgresDatabase, SqliteDatabase
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import App, World
from integration.process import run


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Here it is where the way begins."""
    return SqliteDatabase(tmp_path / "lifecycle.db")


@pytest.fixture
def target(migrated_postgres: PostgresDatabase) -> PostgresDatabase:
    migrated_postgres.empty()
    return migrated_postgres


@pytest.fixture
async def idle(app: App, server: FakeServer) -> App:
    """A service whose agent is alone since this moment, 300 s before its TTL; and that is stopped."""
    server.start_worker("agent")
    await app.dispatch()
    server.join("room")
    await app.advance(6)
    server.leave("room")
    await app.settle()
    await app.dispatch("busy")
    server.join("busy", "bob")
    await app.settle()
    await app.stop()
    return app


def contents(database: Database) -> dict[str, list[dict[str, object]]]:
    return {table: database.query(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}  # noqa: S608 - our own names


@pytest.mark.usefixtures("idle")
async def test_every_row_arrives_as_it_was(world: World, target: PostgresDatabase) -> None:
    before = contents(world.database)

    counts = await transfer(world.database.url, target.url)

    assert contents(target) == contents(world.database) == before
    assert counts == {table: len(rows) for table, rows in before.items()}
    assert all(counts.values())


@pytest.mark.usefixtures("idle")
async def test_a_running_ttl_is_acted_on_by_the_service_on_the_new_database(
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
    # Who is in was moved as well, and new history is numbered on from the old.
    assert await moved.state("busy") == "active"
    assert len(world.agents("busy")) == 1


@pytest.mark.usefixtures("idle")
async def test_there_is_a_way_back(world: World, target: PostgresDatabase, tmp_path: Path) -> None:
    await transfer(world.database.url, target.url)
    back = SqliteDatabase(tmp_path / "back.db")

    await transfer(target.url, back.url)

    assert contents(back) == contents(world.database)


@pytest.mark.usefixtures("idle")
async def test_a_target_with_rows_is_refused(world: World, target: PostgresDatabase) -> None:
    await transfer(world.database.url, target.url)
    before = contents(target)

    with pytest.raises(TransferRefused, match=r"not empty: there are rows in .*dispatches"):
        await transfer(world.database.url, target.url)

    assert contents(target) == before


async def test_a_source_that_a_service_runs_on_is_refused(
    app: App, world: World, target: PostgresDatabase
) -> None:
    with pytest.raises(TransferRefused, match="stop the service first"):
        await transfer(world.database.url, target.url)

    assert not any(contents(target).values())
    assert (await app.call("GET", "/readyz")).status == 200


async def test_a_source_that_is_missing_is_refused_and_not_made(
    target: PostgresDatabase, tmp_path: Path
) -> None:
    with pytest.raises(TransferRefused, match="there is no file"):
        await transfer(f"sqlite+aiosqlite:///{tmp_path / 'nothing.db'}", target.url)

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib has none that is async either


async def test_a_database_is_not_copied_into_itself(world: World) -> None:
    with pytest.raises(TransferRefused, match="the same"):
        await transfer(world.database.url, world.database.url)


# The command


@pytest.mark.usefixtures("idle")
async def test_the_command_copies_and_says_what_to_do_next(world: World, target: PostgresDatabase) -> None:
    assert isinstance(world.database, SqliteDatabase)
    ended = await run("copy-database", "--from", f"sqlite:///{world.database.path}", DATABASE_URL=target.url)

    assert (ended.code, ended.err) == (0, "")
    assert "dispatches      2" in ended.out
    assert "set DATABASE_URL to the new database" in ended.out
    assert contents(target) == contents(world.database)


async def test_a_command_that_cannot_says_why_in_one_line(tmp_path: Path) -> None:
    ended = await run(
        "copy-database", "--from", f"sqlite:///{tmp_path}/no.db", "--to", f"sqlite:///{tmp_path}/new.db"
    )

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"Nothing was copied: there is no file {tmp_path}/no.db\n"


async def test_a_command_without_its_source_says_how_it_is_used() -> None:
    ended = await run("copy-database")

    assert ended.code == 2
    assert "--from URL" in ended.err
