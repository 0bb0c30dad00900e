"""Timers: a cache of the deadlines in the rows, on the real event loop."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from app.control.timers import Timers
from app.lifecycle import SECOND_US, Dispatch, State
from app.state.views import Deadline
from fakes.dispatches import INTENT

START = 1_700_000_000_000_000
HOUR = 3_600 * SECOND_US


@dataclass
class StoppedClock:
    at: int = START

    def now(self) -> int:
        return self.at


@dataclass
class Bench:
    """Timers with a stopped clock, and the deadlines that have fired."""

    clock: StoppedClock = field(default_factory=StoppedClock)
    fired: list[Deadline] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.timers = Timers(self.clock, self.fired.append)

    async def settle(self) -> None:
        """Let every callback run that is due."""
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def deadline(due_at: int, row_id: str = "row") -> Deadline:
    return Deadline(row_id, "room", due_at)


def dispatch(**deadlines: int | None) -> Dispatch:
    idle = replace(INTENT, state=State.IDLE, created_at=START, last_activity_at=START)
    return replace(idle, **deadlines)  # type: ignore[arg-type]


async def test_an_overdue_deadline_fires_at_once_and_once(bench: Bench) -> None:
    bench.timers.arm(deadline(START - HOUR))
    await bench.settle()
    assert bench.fired == [deadline(START - HOUR)]
    assert len(bench.timers) == 0


async def test_a_timer_never_fires_inside_arm(bench: Bench) -> None:
    bench.timers.arm(deadline(START))
    assert bench.fired == []
    await bench.settle()
    assert bench.fired == [deadline(START)]


async def test_a_future_deadline_fires_after_its_remaining_time() -> None:
    clock, fired = StoppedClock(START + HOUR - 1_000), asyncio.Event()
    timers = Timers(clock, lambda _: fired.set())
    timers.arm(deadline(START + HOUR))
    await asyncio.sleep(0)
    assert not fired.is_set()
    await asyncio.wait_for(fired.wait(), 1)


async def test_arming_again_for_the_same_time_changes_nothing(bench: Bench) -> None:
    bench.timers.arm(deadline(START))
    bench.timers.arm(deadline(START))
    await bench.settle()
    assert bench.fired == [deadline(START)]


async def test_a_moved_deadline_moves_its_timer(bench: Bench) -> None:
    bench.timers.arm(deadline(START))
    bench.timers.arm(deadline(START + HOUR))
    await bench.settle()
    assert bench.fired == []
    assert bench.timers.due_at("row") == START + HOUR
    bench.timers.arm(deadline(START - 1))
    await bench.settle()
    assert bench.fired == [deadline(START - 1)]


async def test_a_timer_that_has_fired_can_be_armed_for_the_same_time_again(bench: Bench) -> None:
    """After a deadline that could not be committed, the sweep arms the timer again."""
    for _ in range(2):
        bench.timers.arm(deadline(START))
        await bench.settle()
    assert len(bench.fired) == 2


async def test_sync_follows_the_row(bench: Bench) -> None:
    bench.timers.sync(dispatch(ttl_expires_at=START + HOUR))
    assert bench.timers.due_at("row") == START + HOUR
    bench.timers.sync(dispatch(ttl_expires_at=START + 2 * HOUR))
    assert bench.timers.due_at("row") == START + 2 * HOUR
    bench.timers.sync(dispatch(ttl_expires_at=None))
    assert bench.timers.due_at("row") is None
    assert len(bench.timers) == 0


async def test_sync_of_a_row_without_a_timer_or_a_deadline_does_nothing(bench: Bench) -> None:
    bench.timers.sync(dispatch())
    assert len(bench.timers) == 0


async def test_restore_arms_them_all(bench: Bench) -> None:
    bench.timers.restore([deadline(START - 1, "late"), deadline(START + HOUR, "early")])
    await bench.settle()
    assert bench.fired == [deadline(START - 1, "late")]
    assert bench.timers.due_at("early") == START + HOUR
    bench.timers.stop()


async def test_after_a_stop_nothing_fires_and_nothing_is_armed(bench: Bench) -> None:
    bench.timers.arm(deadline(START))
    bench.timers.stop()
    bench.timers.arm(deadline(START, "another"))
    bench.timers.sync(dispatch(ttl_expires_at=START))
    await bench.settle()
    assert (bench.fired, len(bench.timers)) == ([], 0)


async def test_the_callback_may_arm_the_timer_again() -> None:
    bench = Bench()

    def again(fired: Deadline) -> None:
        bench.fired.append(fired)
        if len(bench.fired) < 3:
            bench.timers.arm(fired)

    bench.timers = Timers(bench.clock, again)
    bench.timers.arm(deadline(START))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(bench.fired) == 3
