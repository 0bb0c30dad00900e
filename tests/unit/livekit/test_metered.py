"""The wrapper that counts calls to LiveKit."""

import asyncio
from inspect import iscoroutinefunction

import pytest

from app.errors import LiveKitRefused
from app.lifecycle.mode import Mode
from app.livekit.interface import LiveKit
from app.livekit.metered import metered
from app.logs.counts import LogCounts
from app.metrics.counters import Counters
from app.metrics.registry import Metrics
from fakes.clock import FakeClock
from fakes.faults import REFUSED, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import KEYPAIR


@pytest.fixture
def counters() -> Counters:
    return Counters(mode=Mode.ENFORCE)


@pytest.fixture
def fake() -> FakeLiveKit:
    clock = FakeClock()
    return FakeLiveKit(FakeServer(clock, KEYPAIR, lambda _webhook: None), clock)


@pytest.fixture
def livekit(fake: FakeLiveKit, counters: Counters) -> LiveKit:
    return metered(fake, counters, Metrics(counters, LogCounts(), FakeClock()))


def test_every_call_of_the_protocol_is_wrapped(livekit: LiveKit, fake: FakeLiveKit) -> None:
    calls = [name for name, method in vars(LiveKit).items() if iscoroutinefunction(method)]
    assert len(calls) == 15
    assert all(getattr(livekit, name) != getattr(fake, name) for name in calls)
    assert livekit.now() == fake.now()


async def test_calls_are_counted_by_method_and_result(
    livekit: LiveKit, fake: FakeLiveKit, counters: Counters
) -> None:
    assert await livekit.list_rooms() == ()
    fake.faults.script("list_rooms", FailBefore(REFUSED))
    with pytest.raises(LiveKitRefused):
        await livekit.list_rooms()
    assert counters.livekit_calls == {("list_rooms", "ok"): 1, ("list_rooms", "refused"): 1}


async def test_a_cancelled_probe_counts_as_failed(
    livekit: LiveKit, fake: FakeLiveKit, counters: Counters
) -> None:
    hanging = fake.faults.hang("probe")
    task = asyncio.create_task(livekit.probe("room", "agent"))
    await hanging.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counters.livekit_calls == {("probe", "cancelled"): 1}
    assert counters.probes == {"failed": 1}
