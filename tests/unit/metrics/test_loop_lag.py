"""The lag of the event loop: how long a task waited beyond the second that it asked for."""

import asyncio

import pytest

from app.lifecycle.mode import Mode
from app.logs.counts import LogCounts
from app.metrics.counters import Counters
from app.metrics.registry import LoopLag, Metrics
from fakes.clock import FakeClock
from simulation.loop import SimulatedLoop

LAG = "agent_lifecycle_event_loop_lag_seconds"


def test_the_lag_is_as_long_as_the_loop_was_blocked() -> None:
    loop = SimulatedLoop()
    metrics = Metrics(Counters(mode=Mode.ENFORCE), LogCounts(), FakeClock())

    def block() -> None:
        loop.elapsed_us += 250_000

    async def run() -> None:
        lag = LoopLag(metrics.loop_lag_seconds.observe)
        lag.start()
        # It wakes at 1 s, 2 s, and 150 ms after 3 s.
        loop.call_later(2.9, block)
        await asyncio.sleep(4.5)
        await lag.close()

    loop.finish(run())
    loop.close()

    read = metrics.registry.get_sample_value
    assert read(f"{LAG}_count") == 4
    assert read(f"{LAG}_sum") == pytest.approx(0.15, abs=0.001)
    assert [read(f"{LAG}_bucket", {"le": bound}) for bound in ("0.1", "0.25")] == [3, 4]
