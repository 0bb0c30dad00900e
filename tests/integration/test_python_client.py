"""The Python client against the real app: each call, sync and async, and what its errors say."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import pytest
from agent_lifecycle_client import AsyncClient, Client, ServiceUnreachable, calls, errors
from agent_lifecycle_client.calls import Call
from agent_lifecycle_client.client import T

from devstack.client_models import operations
from devstack.ports import free_port
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, API_KEY, App, World, member_token
from integration.reports import ReportingWorker

TODAY = dt.date(2026, 11, 30)

#: The blocking client and the other are two paths.
pytestmark = pytest.mark.every_case


class Send(Protocol):
    """Sends a call with one of the two clients."""

    def __call__(self, call: Call[T]) -> Awaitable[T]: ...


@pytest.fixture
async def app(start_app: StartApp) -> App:
    return await start_app(conversation_memory=True)


@pytest.fixture
def base_url(app: App) -> str:
    return f"http://127.0.0.1:{app.port}"


@pytest.fixture(params=["sync", "async"])
async def send(request: pytest.FixtureRequest, base_url: str) -> AsyncIterator[Send]:
    if request.param == "async":
        async with AsyncClient(base_url, API_KEY) as client:
            yield client.send
        return
    with Client(base_url, API_KEY) as blocking:

        async def in_thread(call: Call[T]) -> T:
            return await asyncio.to_thread(blocking.send, call)

        yield in_thread


@pytest.mark.usefixtures("worker")
async def test_an_agent_from_the_request_to_its_history(
    send: Send, app: App, world: World, server: FakeServer
) -> None:
    metadata = {"name": "Alice"}
    granted = await send(calls.request_agent("room", metadata=metadata, timezone="Mars/Olympus"))
    server.join("room")
    await app.advance(6)
    again = await send(calls.request_agent("room", metadata="other"))

    assert (granted.reused, granted.source, granted.metadata_applied) == (False, "dispatched", True)
    assert "timezone" in granted.warnings[0]
    assert (again.reused, again.dispatch_id, again.metadata_applied) == (True, granted.dispatch_id, False)

    status = await send(calls.show_status("room", agent_name=AGENT))
    assert (status.has_agent, status.state, status.participant_count) == (True, "active", 1)
    assert status.created_at is not None
    assert status.created_at.utcoffset() == dt.timedelta(0)
    (listed,) = (await send(calls.list_agents(state=("active", "idle"), room_name="room"))).agents
    assert listed.dispatch_id == granted.dispatch_id
    history = await send(calls.show_agent(listed.dispatch_id))
    assert history.agent == listed
    assert '"Alice"' in history.metadata
    assert history.history[-1].to_state == "active"

    kept = await send(calls.end_agent("room", only_if_empty=True))
    assert kept.dispatch_id is None
    ended = await send(calls.end_agent("room"))
    assert ended.dispatch_id == granted.dispatch_id
    await app.settle()
    assert world.agents("room") == []
    assert (await send(calls.show_status("room"))).has_agent is False


@pytest.mark.usefixtures("worker")
async def test_the_list_comes_page_by_page(send: Send, app: App) -> None:
    for room in ("a", "b", "c"):
        await send(calls.request_agent(room))
    await app.settle()

    rooms, cursor = [], None
    while True:
        page = await send(calls.list_agents(limit=2, cursor=cursor))
        rooms += [agent.room_name for agent in page.agents]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert sorted(rooms) == ["a", "b", "c"]


@pytest.mark.usefixtures("worker")
async def test_a_hold_and_its_end(send: Send, app: App, server: FakeServer) -> None:
    granted = await send(calls.request_agent("room"))
    assert granted.dispatch_id
    server.join("room")
    await app.settle()

    held = await send(calls.hold_agent(granted.dispatch_id))
    assert (held.state, held.dispatch_id) == ("on_hold", None)
    with pytest.raises(errors.OnHold):
        await send(calls.request_agent("room", wait="ready"))
    resumed = await send(calls.resume_agent(granted.dispatch_id))
    assert (resumed.reused, resumed.source) == (False, "dispatched")
    with pytest.raises(errors.NotFound):
        await send(calls.hold_agent("AD_nobody"))


@pytest.mark.usefixtures("worker")
async def test_a_token_brings_its_agent(send: Send, world: World, app: App) -> None:
    wanted = {"agents": [{"agent_name": AGENT}]}
    token = await send(calls.issue_token(room_name="room", participant_identity="alice", room_config=wanted))
    await app.settle()
    assert token.server_url == "ws://livekit.test"
    assert token.participant_token.count(".") == 2
    assert len(world.dispatches("room")) == 1


async def test_what_agents_cost(send: Send) -> None:
    usage = await send(calls.show_usage(first=TODAY, to=TODAY + dt.timedelta(days=2), by="day"))
    assert (usage.from_, usage.to, usage.by) == (TODAY, TODAY + dt.timedelta(days=2), "day")
    assert usage.totals.dispatches == 0
    with pytest.raises(errors.Invalid, match=r"at `\$\.from`"):
        await send(calls.show_usage(first=TODAY, to=TODAY))


async def test_a_room_is_forgotten(send: Send) -> None:
    assert (await send(calls.forget_room("room"))).forgotten == 0


async def test_what_was_announced(send: Send, app: App) -> None:
    await app.dispatch()
    found = await send(calls.list_events(limit=1))
    assert [(one.type, one.data.position) for one in found.events] == [("agent.requested", 1)]
    assert (await send(calls.list_events(after=found.next))).events[0].type == "agent.dispatched"
    assert (await send(calls.list_event_endpoints())).endpoints == []
    with pytest.raises(errors.NotFound):
        await send(calls.replay_events(after=0))


async def test_a_drain_of_a_worker_and_of_a_deployment(
    send: Send, app: App, world: World, worker: FakeWorker
) -> None:
    reporting = ReportingWorker(world=world, worker=worker)
    await reporting.report(app)
    (known,) = (await send(calls.list_workers())).workers
    assert (known.id, known.agent_names, known.drain_requested) == (reporting.id, [AGENT], False)

    assert (await send(calls.drain_worker(reporting.id))).workers[0].drain_requested is True
    assert (await send(calls.undrain_worker(reporting.id))).workers[0].drain_requested is False
    assert (await send(calls.drain_deployment("blue"))).drained_deployments == ["blue"]
    assert (await send(calls.undrain_deployment("blue"))).drained_deployments == []
    with pytest.raises(errors.NotFound):
        await send(calls.drain_worker("worker-of-nobody"))


async def test_the_probes(send: Send) -> None:
    assert (await send(calls.show_health())).status == "ok"
    assert (await send(calls.show_readiness())).ready is True


async def test_an_error_is_told_as_what_it_is(send: Send, base_url: str) -> None:
    with pytest.raises(errors.Invalid, match="roomName") as invalid:
        await send(calls.request_agent(" room "))
    assert (invalid.value.status, invalid.value.retryable) == (422, False)
    assert invalid.value.request_id
    async with AsyncClient(base_url, "no-such-key") as stranger:
        with pytest.raises(errors.Unauthenticated):
            await stranger.list_agents()


@pytest.mark.usefixtures("worker")
async def test_a_participant_reaches_its_own_room_alone(base_url: str) -> None:
    async with AsyncClient(base_url, member_token("own-room")) as client:
        assert (await client.request_agent("own-room")).reused is False
        with pytest.raises(errors.Forbidden):
            await client.request_agent("other-room")
        with pytest.raises(errors.Forbidden):
            await client.show_usage()


async def test_a_caller_over_the_limit_waits_as_long_as_the_service_says(start_app: StartApp) -> None:
    app = await start_app(rate_limit_per_minute=1)
    async with AsyncClient(f"http://127.0.0.1:{app.port}", member_token("room"), attempts=1) as client:
        await client.show_status("room")
        with pytest.raises(errors.RateLimited) as limited:
            await client.show_status("room")
    assert limited.value.retry_after_s is not None
    assert limited.value.retry_after_s > 0


async def test_a_service_that_is_down_is_unreachable() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", API_KEY, attempts=1) as client:
        with pytest.raises(ServiceUnreachable) as unreachable:
            await client.show_health()
    assert unreachable.value.retryable


def test_each_call_is_made_here() -> None:
    tests: Any = [value for name, value in globals().items() if name.startswith("test_")]
    made = {name for test in tests for name in test.__code__.co_names}
    assert operations() <= made
