"""Background tasks: none dies silently, and a loop starts again."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from app.tasks import BackgroundLoop, BackgroundTasks, repeat
from simulation.loop import SimulatedLoop


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """Delays take no time."""
    loop = SimulatedLoop()
    yield loop
    loop.close()


class Work:
    """Fails as told, then works until it is cancelled."""

    def __init__(self, *failures: BaseException, lasts_s: float = 0) -> None:
        self.failures = list(failures)
        self.lasts_s = lasts_s
        self.began_s: list[float] = []
        self.cancelled = False

    async def __call__(self) -> None:
        self.began_s.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(self.lasts_s)
            if self.failures:
                raise self.failures.pop(0)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object, bool]]:
    """Of each line of a task: its name, the delay, and whether there is a traceback."""
    return [
        (vars(record)["task"], vars(record).get("seconds"), record.exc_info is not None)
        for record in caplog.records
        if vars(record).get("action") == "task"
    ]


async def run_for(seconds: float, work: Work) -> None:
    background = BackgroundLoop("errand")
    background.start(work)
    await asyncio.sleep(seconds)
    await background.close()


def test_a_loop_starts_again_after_an_error_and_says_so(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(ValueError("one"), ValueError("two"))
    loop.finish(run_for(10, work))
    assert work.began_s == pytest.approx([0, 1, 3], abs=0.01)
    assert told(caplog) == [("errand", 1.0, True), ("errand", 2.0, True)]
    assert "ValueError: one" in caplog.text


def test_a_loop_that_keeps_failing_waits_a_minute_at_most(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.finish(run_for(350, Work(*(ValueError() for _ in range(99)))))
    assert [seconds for _, seconds, _ in told(caplog)] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_a_failure_after_a_good_while_is_a_first_one(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.finish(run_for(400, Work(*(ValueError() for _ in range(3)), lasts_s=100)))
    assert [seconds for _, seconds, _ in told(caplog)] == [1, 1, 1]


def test_a_cancellation_that_nobody_asked_for_does_not_end_a_loop(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes from something that the work awaited."""
    work = Work(asyncio.CancelledError())
    loop.finish(run_for(10, work))
    assert len(work.began_s) == 2
    assert told(caplog) == [("errand", 1.0, True)]


def test_a_loop_that_is_closed_ends_whether_it_works_or_waits(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    working, waiting = Work(), Work(ValueError())
    loop.finish(run_for(10, working))
    loop.finish(run_for(0.5, waiting))
    assert (len(working.began_s), working.cancelled) == (1, True)
    assert len(waiting.began_s) == 1
    assert len(told(caplog)) == 1


def test_work_that_ends_by_itself_is_over(loop: SimulatedLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        done: list[int] = []

        async def work() -> None:
            done.append(1)

        background = BackgroundLoop("errand")
        assert not background.is_running
        background.start(work)
        assert background.is_running
        await asyncio.sleep(100)
        assert not background.is_running
        assert done == [1]
        await background.finish()
        await background.close()

    loop.finish(scenario())
    assert not caplog.records


def test_a_stop_that_waits_for_the_work_does_not_wait_for_a_delay(loop: SimulatedLoop) -> None:
    async def scenario() -> None:
        tries: list[float] = []

        async def work() -> None:
            tries.append(asyncio.get_running_loop().time())
            if len(tries) < 4:
                raise ValueError

        background = BackgroundLoop("errand")
        background.start(work)
        await asyncio.sleep(1.5)
        await background.finish()
        assert tries == pytest.approx([0, 1, 1.5, 1.5], abs=0.01)

    loop.finish(scenario())


def test_a_step_that_fails_does_not_end_the_steps(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[float] = []

    async def step() -> None:
        steps.append(asyncio.get_running_loop().time())
        if len(steps) == 1:
            raise ValueError

    async def scenario() -> None:
        background = BackgroundLoop("steps")
        background.start(lambda: repeat(step, 10))
        await asyncio.sleep(35)
        await background.close()

    loop.finish(scenario())
    assert steps == pytest.approx([10, 21, 31], abs=0.01)
    assert len(told(caplog)) == 1


def _spawn(loop: SimulatedLoop, work: Coroutine[Any, Any, None], grace_s: float = 10) -> None:
    async def scenario() -> None:
        tasks = BackgroundTasks()
        tasks.spawn(work, "errand")
        await tasks.drain(grace_s)

    loop.finish(scenario())


def test_a_task_that_fails_is_logged(loop: SimulatedLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no such thing")

    _spawn(loop, fail())
    assert told(caplog) == [("errand", None, True)]
    assert "ValueError: no such thing" in caplog.text


@pytest.mark.parametrize("grace_s", [0, 10], ids=["cancelled", "done"])
def test_a_task_that_is_done_or_cancelled_is_not_logged(
    loop: SimulatedLoop, caplog: pytest.LogCaptureFixture, grace_s: float
) -> None:
    _spawn(loop, asyncio.sleep(5), grace_s)
    assert not caplog.records
