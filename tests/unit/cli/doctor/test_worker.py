"""The worker check, for each possible outcome of a dispatch."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Verdict
from app.cli.doctor.worker import check_workers
from app.config.settings import load_config
from fakes.clock import FakeClock
from fakes.faults import UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import Process
from fakes.server import FakeServer
from integration.harness import KEYPAIR


class PassingLiveKit(FakeLiveKit):
    """Each call lets time pass, so that no test has to wait."""

    def __init__(self, server: FakeServer, clock: FakeClock) -> None:
        super().__init__(server, clock)
        self._passing = clock

    async def list_participants(self, room_name: str) -> Any:
        self._passing.advance(0.2)
        return await super().list_participants(room_name)

    async def delete_room(self, room_name: str) -> bool:
        self.server.delete_room(room_name)
        return True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> FakeServer:
    return FakeServer(clock, KEYPAIR, lambda _webhook: None)


@pytest.fixture
def livekit(server: FakeServer, clock: FakeClock) -> PassingLiveKit:
    return PassingLiveKit(server, clock)


@pytest.fixture
async def context(livekit: PassingLiveKit, clock: FakeClock) -> AsyncIterator[CheckContext]:
    environ = {
        "LIVEKIT_URL": "ws://livekit.test",
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "AGENT_NAME": "agent",
    }
    async with aiohttp.ClientSession() as http:
        yield CheckContext(
            config=load_config(environ), environ=environ, http=http, livekit=livekit, clock=clock, wait_s=0
        )


async def examine(context: CheckContext, wait_s: float = 5) -> Finding:
    [finding] = [one async for one in check_workers(replace(context, wait_s=wait_s))]
    return finding


async def test_an_agent_with_the_helper_reports_its_health(context: CheckContext, server: FakeServer) -> None:
    server.start_worker("agent")
    finding = await examine(context)
    assert finding.verdict is Verdict.OK
    assert "reports its health" in finding.message
    assert server.rooms == {}


async def test_an_agent_without_the_helper_is_ok_but_replaced(
    context: CheckContext, server: FakeServer
) -> None:
    server.start_worker("agent", helper=False)
    finding = await examine(context)
    assert finding.verdict is Verdict.OK
    assert "replaced, not reused" in finding.message


async def test_an_unreachable_agent_needs_the_media_ports(
    context: CheckContext, server: FakeServer, livekit: PassingLiveKit
) -> None:
    worker = server.start_worker("agent")
    livekit.faults.always("probe", FailBefore(UNREACHABLE))
    finding = await examine(context, wait_s=0.5)
    assert worker.process is Process.RUNNING
    assert finding.verdict is Verdict.FAULT
    assert "the agent was not reachable" in finding.message
    assert "rtc.udp_port" in str(finding.fix)


async def test_a_job_that_never_becomes_an_agent(context: CheckContext, server: FakeServer) -> None:
    server.start_worker("agent", joins_after_s=3600)
    server.create_dispatch("before", "agent")
    finding = await examine(context, wait_s=0.5)
    assert "but no agent joined" in finding.message


async def test_a_name_without_a_worker(context: CheckContext, server: FakeServer) -> None:
    server.start_worker("Agent")
    finding = await examine(context, wait_s=0.5)
    assert "no worker is registered as agent (waited 0.5 s)" in finding.message
    assert '@server.rtc_session(agent_name="agent")' in str(finding.fix)
    assert server.rooms == {}


async def test_a_livekit_that_becomes_unreachable(context: CheckContext, livekit: PassingLiveKit) -> None:
    livekit.faults.always("create_dispatch", FailBefore(UNREACHABLE))
    finding = await examine(context)
    assert finding.verdict is Verdict.FAULT
    assert "could not be dispatched: LiveKit is not reachable" in finding.message


async def test_an_interrupted_check_deletes_its_room(
    context: CheckContext, server: FakeServer, livekit: PassingLiveKit
) -> None:
    standing = livekit.faults.hang("list_participants")
    examining = asyncio.create_task(examine(context))
    await standing.reached.wait()
    assert server.rooms
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining
    assert server.rooms == {}
