"""Transactions on a Postgres that collides, restarts, hangs or is down; and advisory locks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from app.config.environment import parse_database_url
from app.database.engine import create_engine
from app.database.transactions import Transactions
from app.errors import DatabaseUnavailable
from fakes.databases import PostgresDatabase, PostgresServer
from fakes.wire import Wire

_BOUND_S = 60.0


@pytest.fixture
def bare(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database for one test."""
    with closing(postgres.create()) as database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text VARCHAR(20))")
        database.execute("INSERT INTO notes VALUES (1, 'one'), (2, 'two')")
        yield database


@pytest.fixture
async def engine(bare: PostgresDatabase) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(f"{bare.url}&deadlock_timeout=50ms&lock_timeout=500ms")
    yield engine
    await engine.dispose()


@pytest.fixture
def transactions(engine: AsyncEngine) -> Transactions:
    return Transactions(engine)


def count(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT count(*) FROM notes")) or 0)


def note(connection: Connection, number: int, words: str) -> None:
    connection.execute(text("UPDATE notes SET text = :words WHERE id = :id"), {"id": number, "words": words})


async def test_transactions_are_read_committed_whatever_the_server_has_been_told(
    transactions: Transactions,
) -> None:
    """A batch locks its rooms and then reads: it must not read as of before its wait for the lock."""
    asked = text("SELECT setting, source FROM pg_settings WHERE name = 'default_transaction_isolation'")
    found = await transactions.read(lambda connection: connection.execute(asked).one())
    assert tuple(found) == ("read committed", "client")


class Tries:
    """Work that fails with `sqlstate` in the first attempts, after it has written."""

    def __init__(self, sqlstate: str, failures: int) -> None:
        self.sqlstate = sqlstate
        self.failures = failures
        self.made = 0

    def __call__(self, connection: Connection) -> int:
        self.made += 1
        connection.execute(text("INSERT INTO notes VALUES (:id, 'try')"), {"id": 100 + self.made})
        if self.made <= self.failures:
            raised = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{self.sqlstate}'; END $$"
            connection.execute(text(raised))
        return self.made


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "23505"])
async def test_a_collision_is_retried_and_leaves_no_rows(transactions: Transactions, sqlstate: str) -> None:
    assert await transactions.write(Tries(sqlstate, failures=2)) == 3
    assert await transactions.read(count) == 3


async def test_repeated_collisions_are_an_outage(transactions: Transactions) -> None:
    tries = Tries("40001", failures=100)

    with pytest.raises(DatabaseUnavailable, match="40001"):
        await transactions.write(tries)

    assert tries.made == 5
    assert await transactions.read(count) == 2


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "57014", "58030", "25006"])
async def test_an_outage_is_not_retried(transactions: Transactions, sqlstate: str) -> None:
    tries = Tries(sqlstate, failures=100)

    with pytest.raises(DatabaseUnavailable, match=sqlstate):
        await transactions.write(tries)

    assert tries.made == 1


async def test_a_wrong_statement_is_not_an_outage(transactions: Transactions) -> None:
    with pytest.raises(ProgrammingError):
        await transactions.write(lambda connection: connection.execute(text("SELECT nonsense")).all())


async def test_two_deadlocked_transactions_both_succeed(
    transactions: Transactions, bare: PostgresDatabase
) -> None:
    both_began = asyncio.Barrier(2)
    first_try = {1, 2}

    def crosswise(first: int, second: int, connection: Connection) -> None:
        note(connection, first, f"by {first}")
        if first in first_try:
            first_try.discard(first)
            await_only(both_began.wait())
        note(connection, second, f"by {first}")

    async with asyncio.timeout(30):
        await asyncio.gather(
            transactions.write(lambda connection: crosswise(1, 2, connection)),
            transactions.write(lambda connection: crosswise(2, 1, connection)),
        )

    texts = {row["text"] for row in bare.query("SELECT text FROM notes")}
    assert texts in ({"by 1"}, {"by 2"})


async def test_a_lock_held_too_long_is_an_outage(transactions: Transactions) -> None:
    held, done = asyncio.Event(), asyncio.Event()

    def hold(connection: Connection) -> None:
        note(connection, 1, "held")
        held.set()
        await_only(done.wait())

    holding = asyncio.create_task(transactions.write(hold))
    await held.wait()
    with pytest.raises(DatabaseUnavailable, match="55P03"):
        await transactions.write(lambda connection: note(connection, 1, "other"))
    done.set()
    await holding


# Forms of the URL


@pytest.mark.parametrize(
    "form",
    [
        "postgresql:///{name}?host={folder}&user=postgres",
        "postgres://postgres:ignored@/{name}?host={folder}&sslmode=prefer&channel_binding=prefer",
        "postgresql://postgres@{quoted}/{name}?connect_timeout=5&application_name=mine",
        "postgresql://postgres@{quoted}:5432/?dbname={name}&keepalives_idle=5",
    ],
)
async def test_libpqs_forms_of_a_url_are_accepted(bare: PostgresDatabase, form: str) -> None:
    folder = str(bare.socket_folder)
    address = form.format(name=bare.name, folder=folder, quoted=quote(folder, safe=""))
    transactions = Transactions(create_engine(parse_database_url(address)))

    assert await transactions.read(count) == 2
    await transactions.close()


@pytest.mark.parametrize(("wish", "limit"), [("", "5s"), ("&statement_timeout=9s", "9s")])
async def test_limits_in_the_url_take_precedence(bare: PostgresDatabase, wish: str, limit: str) -> None:
    transactions = Transactions(create_engine(bare.url + wish))

    def shown(connection: Connection) -> object:
        return connection.scalar(text("SHOW statement_timeout"))

    assert await transactions.read(shown) == limit
    await transactions.close()


# Connections that end


async def test_a_connection_lost_before_the_commit_is_retried(
    transactions: Transactions, bare: PostgresDatabase
) -> None:
    made = 0

    def work(connection: Connection) -> None:
        nonlocal made
        made += 1
        note(connection, 1, f"try {made}")
        if made == 1:
            bare.cut_off()
        note(connection, 2, f"try {made}")

    await transactions.write(work)

    assert {row["text"] for row in bare.query("SELECT text FROM notes")} == {"try 2"}


async def test_a_connection_lost_at_the_commit_is_not_retried(
    transactions: Transactions, bare: PostgresDatabase
) -> None:
    """Whether it was committed is unknown; the caller has to retry and will find out."""
    made = 0

    def work(connection: Connection) -> None:
        nonlocal made
        made += 1
        note(connection, 1, "cut")
        bare.cut_off()

    with pytest.raises(DatabaseUnavailable):
        await transactions.write(work)

    assert made == 1
    assert await transactions.read(count) == 2


@pytest.fixture
async def wire(bare: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path, bare.socket_folder)
    yield wire
    wire.thaw()


def over(wire: Wire, bare: PostgresDatabase) -> AsyncEngine:
    return create_engine(f"postgresql+asyncpg://postgres@/{bare.name}?host={wire.folder}")


async def test_a_server_that_does_not_answer_is_an_outage(wire: Wire, bare: PostgresDatabase) -> None:
    engine = over(wire, bare)
    transactions = Transactions(engine, timeout_s=2)
    async with wire.listening(), asyncio.timeout(60):
        assert await transactions.read(count) == 2
        wire.freeze()
        # On an existing connection, and on a new one.
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="Timeout"):
                await transactions.read(count)
        wire.thaw()
        assert await transactions.read(count) == 2
        await engine.dispose()


async def test_a_server_that_is_down_is_an_outage_until_it_is_back(
    wire: Wire, bare: PostgresDatabase
) -> None:
    engine = over(wire, bare)
    transactions = Transactions(engine)
    async with wire.listening():
        assert await transactions.read(count) == 2
    with pytest.raises(DatabaseUnavailable):
        await transactions.read(count)
    (wire.folder / ".s.PGSQL.5432").unlink(missing_ok=True)
    async with wire.listening():
        assert await transactions.read(count) == 2
        await engine.dispose()


# Advisory locks


async def test_one_process_at_a_time_holds_the_lock_of_a_name(transactions: Transactions) -> None:
    async with transactions.exclusive("round") as first, transactions.exclusive("round") as second:
        assert (first, second) == (True, False)
        async with transactions.exclusive("another") as other:
            assert other
    async with transactions.exclusive("round") as again:
        assert again


async def test_an_error_in_the_block_releases_the_lock(transactions: Transactions) -> None:
    with pytest.raises(LookupError):
        async with transactions.exclusive("round"):
            raise LookupError
    async with transactions.exclusive("round") as locked:
        assert locked


async def test_a_lost_connection_releases_the_lock_without_an_error(
    transactions: Transactions, bare: PostgresDatabase
) -> None:
    async with transactions.exclusive("round") as first:
        assert first
        bare.cut_off()
        async with transactions.exclusive("round") as second:
            assert second


async def test_no_lock_is_left_after_the_block(transactions: Transactions, bare: PostgresDatabase) -> None:
    for _ in range(20):
        async with transactions.exclusive("round"):
            pass
    await transactions.read(count)

    locks = "SELECT * FROM pg_locks WHERE locktype = 'advisory'"
    assert bare.query(locks) == []


async def test_on_sqlite_the_lock_is_always_held(tmp_path: Path) -> None:
    transactions = Transactions(create_engine(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}"))
    async with transactions.exclusive("round") as first, transactions.exclusive("round") as second:
        assert (first, second) == (True, True)
    await transactions.close()


async def test_a_close_also_closes_the_connection_of_a_read_under_way(tmp_path: Path) -> None:
    transactions = Transactions(create_engine(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}"))
    is_open: set[int] = set()
    for engine in transactions.engines:
        event.listen(engine, "connect", lambda raw, _: is_open.add(id(raw)))
        event.listen(engine, "close", lambda raw, _: is_open.discard(id(raw)))
    begun, may_end = threading.Event(), threading.Event()

    def read_long(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        begun.set()
        assert may_end.wait(_BOUND_S)

    await transactions.write(lambda connection: connection.execute(text("SELECT 1")))
    reading = asyncio.create_task(transactions.read(read_long))
    assert await asyncio.to_thread(begun.wait, _BOUND_S)

    closing_all = asyncio.create_task(transactions.close())
    async with asyncio.timeout(_BOUND_S):
        # The writer has ended, and whatever follows its end at once.
        while _threads_of_the_file() > 1:  # noqa: ASYNC110 - a thread sets no event
            await asyncio.sleep(0.01)
    await asyncio.to_thread(lambda: None)
    may_end.set()
    await asyncio.gather(reading, closing_all)

    assert not is_open


def _threads_of_the_file() -> int:
    return sum(thread.name.startswith("database file") for thread in threading.enumerate())
