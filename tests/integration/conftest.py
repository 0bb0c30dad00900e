"""Fixtures of the integration tests: a world without the service, and services to put into it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.clock import Clock
from app.control import dispatcher, liveness, sweeper
from app.control.warm_pool import WarmPool
from app.logs.counts import LogCounts
from app.tasks import repeat
from app.tracing.interface import Tracing
from fakes.clock import SECOND_US, FakeClock
from fakes.databases import Database, PostgresDatabase, PostgresServer, SqliteDatabase
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from fakes.store import PATIENCE_S, DatabaseFaults
from integration.event_receiver import EventReceiver
from integration.harness import AGENT, KEYPAIR, App, World
from integration.replicas import Replica, StartReplica

#: An interval that a test has chosen so that rounds come by themselves.
_SOON_S = 1.0


class StartApp(Protocol):
    """Starts a service on the world's database; `settings` replace fields of its Config."""

    async def __call__(
        self,
        *,
        ready: bool = True,
        clock: Clock | None = None,
        log_counts: LogCounts | None = None,
        tracing: Tracing | None = None,
        **settings: Any,
    ) -> App: ...


@pytest.fixture(autouse=True)
async def _no_leaked_tasks() -> AsyncIterator[None]:
    """Set up first and torn down last: what runs then, nobody has stopped."""
    yield
    current = asyncio.current_task()
    leaked = [task for task in asyncio.all_tasks() if task is not current]
    assert not leaked, f"these tasks were left behind: {leaked}"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """One for all tests, emptied for each: making one takes ten times as long."""
    with closing(postgres.create()) as database:
        database.migrate()
        yield database


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copied for each test: to migrate takes longer than most tests do."""
    database = SqliteDatabase(tmp_path_factory.mktemp("migrated") / "lifecycle.db")
    database.migrate()
    return database.path


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """SQLite, unless a test says otherwise with one of the harness's marks.

    ON_BOTH is for what the two could do differently: transactions and their order, claims and locks, faults,
    migrations, and each statement at least once. What is decided before a statement, or of rows that were
    read, is the same on either.
    """
    if getattr(request, "param", "sqlite") == "sqlite":
        migrated: Path = request.getfixturevalue("migrated_file")
        return SqliteDatabase(Path(shutil.copy(migrated, tmp_path / "lifecycle.db")))
    postgres: PostgresDatabase = request.getfixturevalue("migrated_postgres")
    postgres.empty()
    return postgres


@pytest.fixture
def livekit_ahead_s() -> int:
    """How far LiveKit's clock is ahead of ours; a test that says `CLOCKS_APART` runs with others as well."""
    return 0


@pytest.fixture
def world(database: Database, livekit_ahead_s: int) -> World:
    clock, post = FakeClock(), Post()
    server = FakeServer(clock, KEYPAIR, post, ahead_us=livekit_ahead_s * SECOND_US)
    return World(
        clock=clock,
        livekit=FakeLiveKit(server, clock),
        post=post,
        database=database,
    )


@pytest.fixture
def livekit(world: World) -> FakeLiveKit:
    return world.livekit


@pytest.fixture
def server(world: World) -> FakeServer:
    return world.livekit.server


@pytest.fixture
async def start_app(world: World) -> AsyncIterator[StartApp]:
    started: list[App] = []

    async def start(
        *,
        ready: bool = True,
        clock: Clock | None = None,
        log_counts: LogCounts | None = None,
        tracing: Tracing | None = None,
        **settings: Any,
    ) -> App:
        app = App(world, replace(world.config, **settings), clock, log_counts, tracing)
        started.append(app)
        return await (app.start_ready() if ready else app.start())

    yield start
    for app in started:
        await app.stop()


@pytest.fixture
async def app(start_app: StartApp) -> App:
    return await start_app()


@pytest.fixture(autouse=True)
def _no_call_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call's limit is in real time, and a busy machine may need longer."""
    monkeypatch.setattr(dispatcher, "_FLIGHT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(autouse=True)
def _rounds_come_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine the service's own round would come within a test. Some tests choose one soon."""

    async def repeat_often(step: Callable[[], Awaitable[object]], interval_s: float) -> None:
        await (repeat(step, interval_s) if interval_s < _SOON_S else asyncio.Event().wait())

    for module in (sweeper, liveness):
        monkeypatch.setattr(module, "repeat", repeat_often)


@pytest.fixture
def warm_pool_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm pool's rounds come when a test says so: one of its own, cut off, leaves agents half made."""
    monkeypatch.setattr(WarmPool, "start", lambda _: None)


@pytest.fixture
async def start_replica(world: World) -> AsyncIterator[StartReplica]:
    started: list[Replica] = []

    async def start(**settings: Any) -> Replica:
        livekit = FakeLiveKit(world.livekit.server, world.clock)
        own = replace(world, livekit=livekit, database_faults=DatabaseFaults())
        replica = Replica(App(own, replace(own.config, **settings)), own)
        started.append(replica)
        await replica.app.start_ready()
        return replica

    yield start
    for replica in started:
        await replica.app.stop()


@pytest.fixture
async def a(start_replica: StartReplica) -> Replica:
    return await start_replica()


@pytest.fixture
async def b(start_replica: StartReplica) -> Replica:
    return await start_replica()


@pytest.fixture
def worker(server: FakeServer) -> FakeWorker:
    """A worker for the default agent, with the helper."""
    return server.start_worker(AGENT)


@pytest.fixture
def plain_worker(server: FakeServer) -> FakeWorker:
    """One whose sessions close with their user, and cannot be asked."""
    return server.start_worker(AGENT, helper=False)


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    """It checks each signature."""
    receiver = await EventReceiver().start()
    yield receiver
    await receiver.stop()
