"""The migrations create the schema of the tables, and can be reverted and repeated."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import migrations
from app.database.engine import create_engine
from app.database.migrations import MigrationError
from app.database.tables import metadata
from fakes.databases import Database, PostgresDatabase, PostgresServer, SqliteDatabase
from integration.conftest import StartApp
from integration.harness import World

_SQLITE_DDL = """SELECT name, replace(sql, '"', '') AS line FROM sqlite_master WHERE sql IS NOT NULL"""
_POSTGRES_DDL = """
    SELECT table_name AS name, concat_ws(' ', column_name, data_type, character_maximum_length, is_nullable,
        column_default) AS line FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
"""


@pytest.fixture(params=["sqlite", "postgres"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables, for one test."""
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path / "migrated.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with closing(server.create()) as database:
        yield database


@pytest.fixture
def other(bare: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A second database of the same kind."""
    if isinstance(bare, SqliteDatabase):
        yield SqliteDatabase(tmp_path / "created.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with closing(server.create()) as database:
        yield database


@pytest.fixture
async def engine(bare: Database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(bare.url)
    yield engine
    await engine.dispose()


async def run(engine: AsyncEngine, do: str, revision: str) -> None:
    def work(connection: Connection) -> None:
        getattr(command, do)(migrations.alembic_config(connection), revision)

    async with engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        await connection.run_sync(work)


def ddl(database: Database) -> set[tuple[str, str]]:
    """Each line of each table and index, without order, spacing and quotes."""
    rows = database.query(_POSTGRES_DDL if isinstance(database, PostgresDatabase) else _SQLITE_DDL)
    # SQLite appends added columns to the last line, and a table that is copied gets brackets.
    lines = {
        (row["name"], " ".join(line.strip(" ,").split()).replace("DEFAULT ('')", "DEFAULT ''"))
        for row in rows
        for line in re.split(r"\n|,(?![^(]*\))", row["line"])
    }
    return {(name, line) for name, line in lines if not name.startswith("alembic_version")}


async def test_the_migrations_create_exactly_the_tables(
    engine: AsyncEngine, bare: Database, other: Database
) -> None:
    await migrations.upgrade(engine)
    created = create_engine(other.url)
    async with created.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await created.dispose()

    migrated = ddl(bare)

    assert migrated == ddl(other)
    assert any("ux_dispatches_live" in line for _, line in migrated)


async def test_the_migration_counts_people_in_existing_rooms(engine: AsyncEngine, bare: Database) -> None:
    await run(engine, "upgrade", "0001")
    bare.execute(
        "INSERT INTO rooms VALUES ('full', 'RM_full', 1, NULL, 1, 1), ('empty', 'RM_empty', 1, NULL, 1, 1),"
        " ('over', 'RM_over', 1, 9, 1, 1)"
    )
    bare.execute(
        "INSERT INTO participants VALUES ('PA_1', 'full', 'RM_full', 'person', NULL, NULL, NULL, NULL, 1, 1),"
        " ('PA_2', 'full', 'RM_full', 'person', NULL, NULL, NULL, NULL, 1, 1),"
        " ('PA_3', 'full', 'RM_full', 'person', NULL, NULL, 5, NULL, 1, 1),"
        " ('PA_4', 'full', 'RM_full', 'agent', 'agent-1', 'one', NULL, NULL, 1, 1),"
        " ('PA_5', 'over', 'RM_over', 'person', NULL, NULL, NULL, NULL, 1, 1)"
    )

    await migrations.upgrade(engine)

    counts = {row["name"]: row["people"] for row in bare.query("SELECT name, people FROM rooms")}
    assert counts == {"full": 2, "empty": 0, "over": 0}


async def test_alembic_finds_no_difference(engine: AsyncEngine) -> None:
    await migrations.upgrade(engine)

    def check(connection: Connection) -> None:
        command.check(migrations.alembic_config(connection))

    async with engine.begin() as connection:
        await connection.run_sync(check)


async def test_migrations_can_be_reverted_and_repeated(engine: AsyncEngine, bare: Database) -> None:
    await migrations.upgrade(engine)
    before = ddl(bare)

    await run(engine, "downgrade", "base")
    assert ddl(bare) == set()
    await run(engine, "upgrade", "head")

    assert ddl(bare) == before


async def test_upgrading_twice_changes_nothing(engine: AsyncEngine, bare: Database) -> None:
    await migrations.upgrade(engine)
    before = ddl(bare)
    await migrations.upgrade(engine)

    assert ddl(bare) == before


async def test_a_database_of_a_newer_version_is_rejected(engine: AsyncEngine, bare: Database) -> None:
    await migrations.upgrade(engine)
    bare.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(MigrationError, match="newer version"):
        await migrations.upgrade(engine)


async def test_a_second_migrating_process_waits_for_the_first(bare: Database) -> None:
    """Alembic keeps its context per process, so this takes two processes."""
    script = (
        "import asyncio, sys; from app.database.engine import create_engine;"
        "from app.database import migrations; asyncio.run(migrations.upgrade(create_engine(sys.argv[1])))"
    )
    starters = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, bare.url) for _ in range(2)
    ]

    assert [await starter.wait() for starter in starters] == [0, 0]
    assert len(bare.query("SELECT * FROM alembic_version")) == 1


async def test_a_machine_that_halts_in_the_middle_does_not_end_a_migration(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than other transactions may be idle."""
    upgrade = command.upgrade

    def halt_and_upgrade(config: Config, revision: str) -> None:
        time.sleep(2)
        upgrade(config, revision)

    monkeypatch.setattr(command, "upgrade", halt_and_upgrade)
    with closing(postgres.create()) as database:
        engine = create_engine(f"{database.url}&idle_in_transaction_session_timeout=1s")
        await migrations.upgrade(engine)
        await engine.dispose()

        assert len(database.query("SELECT * FROM alembic_version")) == 1


async def test_the_folder_of_the_database_is_created(
    start_app: StartApp, world: World, tmp_path: Path
) -> None:
    database = SqliteDatabase(tmp_path / "new" / "folder" / "lifecycle.db")
    world.database = database
    await start_app()

    assert database.path.exists()
