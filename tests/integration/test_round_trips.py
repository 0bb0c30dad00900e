"""The round trips to Postgres that a batch of changes takes: each costs as much CPU as several rows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from app.database.engine import create_engine
from app.database.loading import load, save
from app.database.store import Store
from app.database.transactions import Transactions
from app.lifecycle import Policy, Terms
from app.livekit.webhooks import translate
from app.state.changes import RoomEvent
from app.state.dispatch_set import DispatchSet
from app.state.unit_of_work import UnitOfWork
from bench.corpus import bodies
from fakes.databases import PostgresDatabase
from fakes.store import PATIENCE_S
from fakes.wire import Wire


@pytest.fixture
async def wire(migrated_postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Wire]:
    migrated_postgres.empty()
    wire = Wire(tmp_path, migrated_postgres.socket_folder)
    async with wire.listening():
        yield wire


@pytest.fixture
async def store(wire: Wire, migrated_postgres: PostgresDatabase) -> AsyncIterator[Store]:
    url = f"postgresql+asyncpg://postgres@/{migrated_postgres.name}?host={wire.folder}"
    store = Store(create_engine(url), timeout_s=PATIENCE_S)
    yield store
    await store.close()


def new_unit() -> UnitOfWork:
    policy = Policy(default=Terms(ttl_us=1, join_timeout_us=1), interval_us=1)
    dispatch_set = DispatchSet(policy=policy, now=0, new_id=lambda: "new", process_id="me")
    return UnitOfWork(dispatch_set=dispatch_set, pseudonym=lambda identity: identity[:16])


def webhooks(number: int, rooms: int = 10) -> list[RoomEvent]:
    """People who join and leave rooms."""
    events = (translate(body.encode()).event for body in bodies(number, rooms, seed=2))
    return [event for event in events if event]


@pytest.mark.parametrize("size", [1, 24, 240])
async def test_a_batch_of_webhooks_takes_five_round_trips(
    size: int, store: Store, wire: Wire, migrated_postgres: PostgresDatabase
) -> None:
    """To begin, to lock the rooms, to read, to write, and to commit."""
    events = webhooks(3 * size)
    first, *batches = (events[start : start + size] for start in range(0, len(events), size))
    # The first time a connection prepares its statements.
    await store.commit(first, new_unit)

    for batch in batches:
        before = wire.round_trips
        outcomes = await store.commit(batch, new_unit)

        assert all(outcome.applied for outcome in outcomes)
        assert wire.round_trips - before == 5

    assert len(migrated_postgres.query("SELECT id FROM webhook_events")) == 3 * size


async def test_a_batch_that_waits_for_a_room_reads_what_the_other_has_committed(
    store: Store, migrated_postgres: PostgresDatabase
) -> None:
    """A statement reads as of its begin: one that also took the lock would read as of before the wait."""
    first, second = webhooks(2, rooms=1)
    may_commit = asyncio.Event()
    other = Transactions(create_engine(migrated_postgres.patient_url), timeout_s=PATIENCE_S)

    def work(connection: Connection) -> None:
        unit = new_unit()
        load(connection, [first], unit)
        unit.apply(first)
        save(connection, unit)
        await_only(may_commit.wait())

    holding = asyncio.create_task(other.write(work))
    async with asyncio.timeout(PATIENCE_S):
        await _until(migrated_postgres, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
        waiting = asyncio.create_task(store.commit([second], new_unit))
        await _until(
            migrated_postgres, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
    may_commit.set()
    await asyncio.gather(holding, waiting)

    assert migrated_postgres.query("SELECT people FROM rooms") == [{"people": 2}]
    await other.close()


async def _until(database: PostgresDatabase, query: str) -> None:
    while not database.query(query):  # noqa: ASYNC110 - a lock sets no event
        await asyncio.sleep(0.01)
