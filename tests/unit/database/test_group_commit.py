"""The group commit, on a store of lists."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest

from app.database.group_commit import BATCH_SIZE, GroupCommit
from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import Busy, DatabaseUnavailable
from app.lifecycle import Policy, Terms
from app.state.changes import Change, Due, Outcome
from app.state.dispatch_set import DispatchSet
from app.state.unit_of_work import UnitOfWork
from fakes.clock import FakeClock
from simulation.loop import SimulatedLoop


def change(name: object) -> Due:
    return Due(room_name="room", row_id=str(name))


def new_unit() -> UnitOfWork:
    policy = Policy(default=Terms(ttl_us=1, join_timeout_us=1), interval_us=1)
    dispatch_set = DispatchSet(policy=policy, now=0, new_id=lambda: "new", process_id="me")
    return UnitOfWork(dispatch_set=dispatch_set, pseudonym=str)


class ListStore:
    """Commits into a list; waits while it is not free, and rejects changes named `bad`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.tries = 0
        self.down = False
        #: Whether it returns an outcome too few.
        self.forgets = False
        #: Raised by the next commits, one each: what no database should do.
        self.slips: list[BaseException] = []
        self.free = asyncio.Event()
        self.free.set()

    async def commit(self, changes: Sequence[Change], _new_unit: object) -> list[Outcome]:
        self.tries += 1
        await self.free.wait()
        if self.down:
            raise DatabaseUnavailable("the disk is full")
        names = [cast("Due", item).row_id for item in changes]
        if self.slips:
            raise self.slips.pop()
        if "bad" in names:
            raise ValueError("no table stores this")
        self.batches.append(names)
        return [Outcome(drift={name: 1}) for name in names[self.forgets :]]


class Bench:
    def __init__(self, queue_limit: int = 20_000) -> None:
        self.store = ListStore()
        self.committed: list[str] = []
        self.failed: list[Sequence[Change]] = []
        self.sizes: list[int] = []
        self.clock = FakeClock()
        self.outage = WriteOutage(self.clock.now)
        self.writer = GroupCommit(
            cast("Store", self.store),
            new_unit,
            self._committed,
            self.failed.append,
            self._metered,
            self.outage,
            queue_limit=queue_limit,
        )

    @contextmanager
    def _metered(self, changes: int) -> Iterator[None]:
        self.sizes.append(changes)
        yield

    def _committed(self, item: Change, outcome: Outcome) -> None:
        name = cast("Due", item).row_id
        assert outcome.drift == {name: 1}
        self.committed.append(name)

    def submit(self, *names: object) -> asyncio.Task[Sequence[Outcome]]:
        return asyncio.create_task(self.writer.submit(*map(change, names)))


@asynccontextmanager
async def running(queue_limit: int = 20_000) -> AsyncIterator[Bench]:
    bench = Bench(queue_limit)
    bench.writer.start()
    try:
        yield bench
    finally:
        bench.store.free.set()
        await bench.writer.close()


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_submission_gets_the_outcomes_of_its_own_changes() -> None:
    async with running() as bench:
        outcomes = await asyncio.gather(bench.submit(1, 2), bench.submit(3))
    assert [[dict(outcome.drift) for outcome in own] for own in outcomes] == [
        [{"1": 1}, {"2": 1}],
        [{"3": 1}],
    ]


async def test_submissions_during_a_commit_are_the_next_commit() -> None:
    async with running() as bench:
        bench.store.free.clear()
        tasks = [bench.submit(0)]
        await _turn()
        tasks += [bench.submit(number) for number in range(1, 6)]
        await _turn()
        bench.store.free.set()
        await asyncio.gather(*tasks)
    assert bench.store.batches == [["0"], ["1", "2", "3", "4", "5"]]
    assert bench.sizes == [1, 5]
    assert bench.committed == ["0", "1", "2", "3", "4", "5"]


async def test_a_batch_has_a_size_limit_and_keeps_the_order() -> None:
    async with running() as bench:
        await asyncio.gather(*(bench.submit(number) for number in range(BATCH_SIZE + 10)))
    assert [len(batch) for batch in bench.store.batches] == [BATCH_SIZE, 10]
    assert bench.committed == [str(number) for number in range(BATCH_SIZE + 10)]


async def test_a_bad_submission_does_not_fail_the_rest_of_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as bench:
        results = await asyncio.gather(
            bench.submit("a"), bench.submit("b", "bad", "c"), bench.submit("d"), return_exceptions=True
        )
    assert isinstance(results[1], ValueError)
    assert bench.store.batches == [["a"], ["d"]]
    assert bench.committed == ["a", "d"]
    assert "Unexpected error while storing a change" in caplog.text


async def test_an_outage_fails_the_batch_in_one_attempt() -> None:
    """A hundred retries one by one would make every caller wait for a hundred timeouts."""
    async with running() as bench:
        bench.store.down = True
        results = await asyncio.gather(*(bench.submit(n) for n in range(100)), return_exceptions=True)
        assert all(isinstance(result, DatabaseUnavailable) for result in results)
        assert bench.store.tries == 1
        assert bench.committed == []
        bench.store.down = False
        await bench.submit("after")
    assert bench.committed == ["after"]


async def test_a_full_queue_raises_busy_and_stores_nothing_more() -> None:
    async with running(queue_limit=2) as bench:
        bench.store.free.clear()
        tasks = [bench.submit("running")]
        await _turn()
        tasks += [bench.submit("one"), bench.submit("two")]
        await _turn()
        assert len(bench.writer) == 2
        with pytest.raises(Busy):
            await bench.writer.submit(change("three"))
        bench.store.free.set()
        await asyncio.gather(*tasks)
    assert bench.committed == ["running", "one", "two"]


async def test_close_commits_the_queue_and_accepts_nothing_more() -> None:
    async with running() as bench:
        bench.store.free.clear()
        tasks = [bench.submit(number) for number in range(3)]
        await _turn()
        closing = asyncio.create_task(bench.writer.close())
        await _turn()
        with pytest.raises(Busy):
            await bench.writer.submit(change("late"))
        assert not closing.done()
        bench.store.free.set()
        await closing
        await asyncio.gather(*tasks)
    assert bench.committed == ["0", "1", "2"]


async def test_close_ends_an_idle_group_commit() -> None:
    async with running() as bench:
        await _turn()
        await asyncio.wait_for(bench.writer.close(), 1)
    assert bench.store.tries == 0


async def test_close_before_start_does_nothing() -> None:
    await Bench().writer.close()


async def test_a_cancelled_caller_does_not_cancel_the_commit() -> None:
    async with running() as bench:
        bench.store.free.clear()
        gone, stays = bench.submit("gone"), bench.submit("stays")
        await _turn()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        bench.store.free.set()
        await stays
    assert bench.committed == ["gone", "stays"]


async def test_a_failure_without_a_waiter_logs_no_warning() -> None:
    async with running() as bench:
        bench.store.free.clear()
        bench.store.down = True
        gone = bench.submit("gone")
        await _turn()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        bench.store.free.set()
        await _turn()
        bench.store.down = False
        await bench.submit("after")
    assert bench.committed == ["after"]


async def test_on_commit_is_called_before_the_submitter_gets_its_outcome() -> None:
    async with running() as bench:
        await bench.submit("one")
        assert bench.committed == ["one"]


async def test_a_failing_on_commit_does_not_stop_the_group_commit(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise nothing would be stored again, and every caller would wait for ever."""
    bench = Bench()

    def fail(_change: Change, _outcome: Outcome) -> None:
        raise RuntimeError("unexpected")

    bench.writer = GroupCommit(
        cast("Store", bench.store), new_unit, fail, bench.failed.append, bench._metered, bench.outage
    )
    bench.writer.start()
    first = bench.submit("one")
    second = bench.submit("two")
    done, waiting = await asyncio.wait([first, second], timeout=60)
    assert not waiting
    assert all(task.exception() is None for task in done)
    await bench.writer.close()
    assert bench.store.batches == [["one", "two"]]
    assert caplog.text.count("Unexpected error while processing a commit") == 2


class Listener:
    """A submitter that waits for nothing."""

    def __init__(self, *, slips: bool = False) -> None:
        self.told: list[object] = []
        self._slips = slips

    def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self.told.append(outcomes)
        if self._slips:
            raise RuntimeError("unexpected")

    def take_failure(self, error: Exception) -> None:
        self.told.append(type(error))
        if self._slips:
            raise RuntimeError("unexpected")


@pytest.mark.parametrize("database", ["works", "is down"])
async def test_submitters_are_told_even_if_one_before_them_fails(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as bench:
        down = bench.store.down = database == "is down"
        bad, good = Listener(slips=True), Listener()
        bench.writer.submit_for(bad, change("one"))
        bench.writer.submit_for(good, change("two"))
        waiting = bench.submit("three")
        await asyncio.wait([waiting], timeout=60)
    news: object = DatabaseUnavailable if down else [Outcome(drift={"two": 1})]
    assert good.told == [news]
    assert len(bad.told) == 1
    assert (waiting.exception() is None) is not down
    assert caplog.text.count("Unexpected error while answering for a commit") == 1


async def test_changes_that_are_not_committed_are_reported_whoever_submitted_them() -> None:
    async with running(queue_limit=1) as bench:
        bench.store.down = True
        with pytest.raises(DatabaseUnavailable):
            await bench.submit("one")
        bench.writer.submit_for(Listener(), change("two"))
        with pytest.raises(Busy):
            bench.writer.submit_for(Listener(), change("three"))
        await _turn()
        assert [[cast("Due", item).row_id for item in each] for each in bench.failed] == [
            ["one"],
            ["three"],
            ["two"],
        ]


async def test_what_comes_in_the_next_turns_of_the_event_loop_joins_the_batch() -> None:
    """But not without end: whoever came first waits for its commit."""
    async with running() as bench:
        loop, left = asyncio.get_running_loop(), list(range(100))

        def submit_another() -> None:
            bench.writer.submit_for(Listener(), change(left.pop()))
            if left:
                loop.call_soon(submit_another)

        submit_another()
        await bench.submit("last")
        first, *_ = bench.store.batches
        assert 2 < len(first) < 50


def test_a_cancellation_in_the_database_does_not_stop_the_group_commit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody asked for it, and those who submitted must not wait for ever."""

    async def scenario() -> None:
        async with running() as bench:
            bench.store.slips.append(asyncio.CancelledError())
            results = await asyncio.gather(bench.submit("one"), bench.submit("two"), return_exceptions=True)
            assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]
            await bench.submit("after")
        assert bench.committed == ["after"]

    loop = SimulatedLoop()
    loop.finish(scenario())
    loop.close()
    assert "Unexpected error in a background task; it starts again" in caplog.text


def test_an_outcome_too_few_does_not_stop_the_group_commit() -> None:
    async def scenario() -> None:
        async with running() as bench:
            bench.store.forgets = True
            with pytest.raises(DatabaseUnavailable, match="not known"):
                await bench.submit("one", "two")
            bench.store.forgets = False
            await bench.submit("after")
        assert bench.committed == ["after"]

    loop = SimulatedLoop()
    loop.finish(scenario())
    loop.close()
