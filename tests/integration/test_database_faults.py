"""A database that is full, read-only, damaged, too new or down: 503 at run time, a clear error at start."""

import asyncio
import itertools
import json
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fakes.databases import Database, PostgresDatabase, PostgresServer, SqliteDatabase
from fakes.server import FakeServer
from fakes.webhooks import SignedWebhook
from integration.conftest import StartApp
from integration.harness import ON_POSTGRES, App, World
from integration.process import Ended, run, running


def joined(world: World, name: str) -> SignedWebhook:
    """A person joins; returns LiveKit's webhook."""
    world.livekit.server.join("room", name)
    return world.post.take()[-1]


@contextmanager
def standby(database: PostgresDatabase) -> Iterator[None]:
    """The server takes no writes meanwhile, and connections made before are cut off at both ends."""
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    database.cut_off()
    try:
        yield
    finally:
        database.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
    database.cut_off()


# At run time


async def test_a_full_disk_is_503_until_there_is_space(app: App, world: World) -> None:
    world.database_faults.full = True
    stored = 0
    for number in itertools.count():
        webhook = joined(world, f"person-{number}")
        answer = await app.deliver(webhook)
        if answer.status != 200:
            break
        stored += 1

    assert (answer.status, answer.body["message"]) == (503, "The database is not available (SQLITE_FULL)")
    # Reads still work, and a sweep survives.
    assert await app.state() == "none"
    assert (await app.call("GET", "/readyz")).status == 200
    await app.service.sweeper.sweep()

    world.database_faults.full = False
    assert (await app.deliver(webhook)).status == 200
    assert len(world.rows("participants")) == stored + 1


async def fill(app: App, world: World) -> SignedWebhook:
    """Let the disk run full; returns the first webhook that is not stored."""
    world.database_faults.full = True
    for number in itertools.count():
        webhook = joined(world, f"person-{number}")
        if (await app.deliver(webhook)).status != 200:
            break
    return webhook


async def test_a_disk_that_is_full_for_a_minute_is_not_ready(app: App, world: World) -> None:
    stored = joined(world, "alice")
    assert (await app.deliver(stored)).status == 200
    webhook = await fill(app, world)
    world.clock.advance(59)
    assert (await app.deliver(webhook)).status == 503
    assert (await app.call("GET", "/readyz")).status == 200

    world.clock.advance(1)
    # A repetition has nothing to store, and proves nothing.
    assert (await app.deliver(stored)).status == 200
    assert (await app.deliver(webhook)).status == 503
    await app.service.sweeper.sweep()
    readiness = await app.call("GET", "/readyz", auth=None)
    assert (readiness.status, readiness.body["database"]) == (
        503,
        "Nothing can be stored since 2027-01-15T08:00:00Z: The database is not available (SQLITE_FULL)",
    )
    for _ in range(2):
        await app.service.alert_monitor.look()
    assert app.service.alert_monitor.active["database_failing"] == 1

    world.database_faults.full = False
    # Out of traffic, no webhook would show it.
    await app.service.sweeper.sweep()
    assert (await app.call("GET", "/readyz")).status == 200
    assert not [row for row in world.rows("webhook_events") if row["received_at"] == 0]


async def test_a_webhook_that_is_stored_ends_an_outage(app: App, world: World) -> None:
    webhook = await fill(app, world)
    world.clock.advance(60)
    assert (await app.deliver(webhook)).status == 503
    assert (await app.call("GET", "/readyz")).status == 503

    world.database_faults.full = False
    assert (await app.deliver(webhook)).status == 200
    assert (await app.call("GET", "/readyz")).status == 200


async def test_one_failure_long_ago_is_no_outage(app: App, world: World) -> None:
    await fill(app, world)
    world.database_faults.full = False
    world.clock.advance(3_600)

    assert (await app.call("GET", "/readyz")).status == 200


@ON_POSTGRES
async def test_a_standby_is_not_ready_after_a_minute(
    app: App, world: World, database: PostgresDatabase
) -> None:
    webhook = joined(world, "alice")
    with standby(database):
        assert (await app.deliver(webhook)).status == 503
        world.clock.advance(60)
        await app.service.sweeper.sweep()
        readiness = await app.call("GET", "/readyz")
    assert readiness.status == 503
    assert readiness.body["database"].endswith("Z: The database is not available (25006)")

    await app.service.sweeper.sweep()
    assert (await app.call("GET", "/readyz")).status == 200


async def test_a_read_only_file_is_503_until_it_is_writable(app: App, world: World) -> None:
    world.database_faults.read_only = True
    webhook = joined(world, "alice")

    assert (await app.deliver(webhook)).body["message"] == "The database is not available (SQLITE_READONLY)"
    assert (await app.dispatch()).code == "database_unavailable"
    assert (await app.call("GET", "/healthz")).status == 200

    world.database_faults.read_only = False
    assert (await app.deliver(webhook)).status == 200
    assert (await app.dispatch()).status == 200


@ON_POSTGRES
async def test_a_standby_is_503_until_it_is_the_primary(
    app: App, world: World, database: PostgresDatabase
) -> None:
    webhook = joined(world, "alice")
    with standby(database):
        answer = await app.deliver(webhook)
    assert (answer.status, answer.body["message"]) == (503, "The database is not available (25006)")

    assert (await app.deliver(webhook)).status == 200


@ON_POSTGRES
async def test_callers_do_not_notice_a_restart_of_postgres(
    app: App, world: World, database: PostgresDatabase
) -> None:
    """Every connection in the pool is dead; each kind of use has to replace it."""
    for use in range(3):
        webhook = joined(world, f"person-{use}")
        database.cut_off()
        if use == 0:
            assert (await app.deliver(webhook)).status == 200
        elif use == 1:
            assert await app.state() == "none"
        else:
            assert (await app.call("GET", "/readyz")).status == 200
    await app.sweep()

    assert len(world.rows("participants")) == 3


async def test_a_full_disk_does_not_end_the_process(world: World, tmp_path: Path) -> None:
    """The kernel limits the size of its files, and then lifts the limit."""
    file = tmp_path / "limited.db"
    async with running(DATABASE_URL=f"sqlite:///{file}") as service:
        written = max(len(read(path)) for path in SqliteDatabase(file).files())
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (written + 50_000, resource.RLIM_INFINITY))
        for number in itertools.count():
            webhook = joined(world, f"person-{number}")
            if (status := await service.deliver(webhook)) != 200:
                break
        assert status == 503
        assert await service.get("/healthz") == 200
        assert await service.get("/api/livekit/agents") == 200

        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await service.deliver(webhook) == 200
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM participants").fetchone() == (number + 1,)


# At the start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lifecycle.db"


@pytest.fixture
async def full_file(start_app: StartApp, world: World, file: Path, server: FakeServer) -> Path:
    """A file with several pages, so that the damage may be anywhere."""
    world.database = SqliteDatabase(file)
    app = await start_app()
    for number in range(200):
        server.join(f"room-{number}")
    await asyncio.gather(*(app.deliver(webhook) for webhook in world.post.take()))
    await app.stop()
    return file


def read(file: Path) -> bytes:
    return file.read_bytes()


def no_database(file: Path) -> None:
    file.write_bytes(b"this is no database, and never was one " * 200)


def a_hole_in_the_middle(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 2)
        opened.write(b"\xa5" * 8192)


def cut_short(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [no_database, a_hole_in_the_middle, cut_short])
async def test_a_damaged_file_is_rejected_with_its_path_and_the_fix(
    full_file: Path, damage: Callable[[Path], None]
) -> None:
    damage(full_file)
    before = read(full_file)

    said = refusal(await run(DATABASE_URL=f"sqlite:///{full_file}"))

    assert said.startswith(f"The file {full_file} is damaged")
    assert "Restore a backup. Or move the file away" in said
    assert read(full_file) == before


async def test_a_database_of_a_newer_version_is_rejected(bare: Database) -> None:
    bare.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    bare.execute("INSERT INTO alembic_version VALUES ('9999')")

    said = refusal(await run(DATABASE_URL=bare.url))

    assert "written by a newer version of this service. Run that version, or restore a backup" in said
    assert isinstance(bare, PostgresDatabase) or str(bare.url.removeprefix("sqlite+aiosqlite:///")) in said


async def test_the_error_names_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    said = refusal(await run(DATABASE_URL=f"sqlite:///{tmp_path}"))

    assert f"The database {tmp_path} cannot be opened: unable to open database file" in said


async def test_the_error_about_a_postgres_that_is_down_hides_the_password() -> None:
    said = refusal(await run(DATABASE_URL="postgresql://user:pass-word@127.0.0.1:1/name"))

    assert "The database cannot be opened: " in said
    assert "pass-word" not in said


async def test_the_error_about_a_rejected_sign_in_has_postgress_reason(postgres: PostgresServer) -> None:
    with closing(postgres.create()) as known:
        url = known.url.replace("user=postgres", "user=nobody")
        said = refusal(await run(DATABASE_URL=url))

    assert 'role "nobody" does not exist' in said


@pytest.fixture(params=["sqlite", "postgres"])
def bare(request: pytest.FixtureRequest, file: Path) -> Iterator[Database]:
    """A database without tables, for one test."""
    if request.param == "sqlite":
        file.touch(mode=0o600)
        yield SqliteDatabase(file)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with closing(server.create()) as database:
        yield database


def refusal(ended: Ended) -> str:
    """The reason of a failed start, from the one log line."""
    assert (ended.code, ended.err) == (1, ""), ended
    (line,) = ended.out.splitlines()
    said = json.loads(line)
    assert said["message"] == "The service cannot start"
    return str(said["reason"])
