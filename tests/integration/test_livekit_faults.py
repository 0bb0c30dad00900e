"""Faults of LiveKit: callers get the right error, and nothing is created twice."""

import asyncio

import pytest

from app.control import dispatcher
from app.errors import LiveKitUnavailable
from fakes.faults import REFUSED, TIMEOUT, UNAVAILABLE, UNREACHABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from integration.harness import ON_BOTH, App, World

READS = ["find_room", "list_dispatches", "list_participants", "probe"]


async def settled(app: App, world: World) -> None:
    """Let all retries run, and check for one known dispatch with one agent."""
    for _ in range(4):
        await app.pass_time(16)
    assert len(world.dispatches("room")) == 1
    assert len(world.agents("room")) == 1
    (listed,) = await app.listed()
    assert listed["dispatchId"] == world.dispatches("room")[0]


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (UNREACHABLE, 503, "livekit_unavailable", True),
        (UNAVAILABLE, 503, "livekit_unavailable", True),
        (TIMEOUT, 504, "livekit_timeout", True),
        (REFUSED, 502, "livekit_refused", False),
    ],
    ids=["unreachable", "unavailable", "timeout", "refused"],
)
async def test_an_outage_of_livekit_is_reported_and_changes_nothing(
    app: App,
    world: World,
    livekit: FakeLiveKit,
    error: LiveKitUnavailable,
    status: int,
    code: str,
    retryable: bool,  # noqa: FBT001 - a column of the table
) -> None:
    livekit.faults.everywhere(FailBefore(error))

    answer = await app.dispatch()

    assert (answer.status, answer.code, answer.body["retryable"]) == (status, code, retryable)
    assert answer.body["message"] == str(error)
    assert ("Retry-After" in answer.headers) is retryable
    assert not any(world.tables().values())
    assert livekit.server.rooms == {}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("error", [UNREACHABLE, UNAVAILABLE, TIMEOUT, REFUSED], ids=lambda error: error.code)
async def test_an_agent_that_cannot_be_inspected_is_not_changed(
    app: App, world: World, livekit: FakeLiveKit, method: str, error: LiveKitUnavailable
) -> None:
    """A call without an answer is no evidence against an agent."""
    await app.dispatch()
    await app.advance(6)
    before, agents = world.tables(), world.agents("room")
    livekit.faults.always(method, FailBefore(error))

    answer = await app.dispatch()

    assert (answer.status, answer.code) == (error.status, error.code)
    assert (world.tables(), world.agents("room")) == (before, agents)
    livekit.faults.mend()
    assert (await app.dispatch()).body["reused"] is True


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("method", ["ensure_room", "list_dispatches", "create_dispatch"])
@pytest.mark.parametrize("fault", [FailBefore(UNAVAILABLE), FailAfter(UNAVAILABLE), FailAfter(TIMEOUT)])
async def test_a_creation_that_fails_once_still_creates_one_agent(
    app: App, world: World, livekit: FakeLiveKit, method: str, fault: FailBefore | FailAfter
) -> None:
    livekit.faults.script(method, fault)

    first = await app.dispatch()

    assert first.status in (200, fault.error.status)
    if first.status != 200:
        assert (await app.dispatch()).status == 200
    await settled(app, world)
    assert len([call for call in livekit.calls if call.method == "create_dispatch"]) <= 2


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "fault", [FailBefore(UNAVAILABLE), FailAfter(UNAVAILABLE), FailAfter(TIMEOUT)], ids=repr
)
async def test_a_creation_that_keeps_failing_is_finished_in_the_background(
    app: App, world: World, livekit: FakeLiveKit, fault: FailBefore | FailAfter
) -> None:
    """The caller gets a retryable error; the row's deadline finds out what happened."""
    livekit.faults.always("create_dispatch", fault)
    first = await app.dispatch()
    if first.status != 200:
        assert (first.status, first.body["retryable"]) == (fault.error.status, True)
    livekit.faults.mend()

    await settled(app, world)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED], ids=lambda error: error.code)
async def test_a_rejected_creation_ends_its_dispatch(
    app: App, world: World, livekit: FakeLiveKit, error: LiveKitUnavailable
) -> None:
    livekit.faults.always("create_dispatch", FailBefore(error))
    answer = await app.dispatch()

    assert (answer.status, answer.code) == (error.status, error.code)
    assert await app.status() == {"hasAgent": False, "state": "none"}
    livekit.faults.mend()
    await app.pass_time(60)
    assert world.dispatches("room") == []
    assert (await app.dispatch()).body["reused"] is False


@pytest.mark.usefixtures("worker")
async def test_a_call_after_a_lost_answer_finds_the_created_dispatch(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    livekit.faults.script("create_dispatch", FailAfter(TIMEOUT))
    livekit.faults.script("list_dispatches", FailBefore(UNAVAILABLE), FailBefore(UNAVAILABLE))
    assert (await app.dispatch()).status == 503
    assert await app.state() == "creating"

    answer = await app.dispatch()

    assert (answer.status, answer.body["reused"]) == (200, True)
    assert world.dispatches("room") == [answer.body["dispatchId"]]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("method", ["delete_dispatch", "remove_participant"])
@pytest.mark.parametrize("fault", [FailBefore(UNAVAILABLE), FailAfter(TIMEOUT)], ids=repr)
async def test_a_replacement_that_fails_half_way_still_leaves_one_agent(
    app: App, world: World, livekit: FakeLiveKit, method: str, fault: FailBefore | FailAfter
) -> None:
    await app.dispatch()
    await app.advance(6)
    world.agents("room")[0].session_open = False
    livekit.faults.script(method, fault)

    answer = await app.dispatch()
    if answer.status != 200:
        assert answer.body["retryable"] is True
        assert (await app.dispatch()).status == 200

    await app.advance(6)
    await app.pass_time(61)
    answering = [agent for agent in world.agents("room") if agent.answers("alice")]
    assert world.agents("room") == answering


async def test_a_hanging_livekit_is_a_504_in_bounded_time(
    app: App, livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_FLIGHT_TIMEOUT_S", 1)
    stuck = livekit.faults.hang("find_room")
    waiting = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    other = await app.status()

    answer = await waiting

    assert other == {"hasAgent": False, "state": "none"}
    assert (answer.status, answer.code, answer.body["retryable"]) == (504, "livekit_timeout", True)


@pytest.mark.usefixtures("worker")
async def test_webhooks_are_accepted_while_livekit_is_down(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    await app.dispatch()
    await app.advance(1)
    livekit.faults.everywhere(FailBefore(UNREACHABLE))
    livekit.server.join("room")
    await app.settle()

    assert (await app.status())["participantCount"] == 1
    assert await app.state() == "active"
    await app.sweep()
    assert await app.state() == "active"
    assert (await app.call("GET", "/readyz")).status == 200
    livekit.faults.mend()
    assert (await app.dispatch()).body["reused"] is True
    assert len(world.agents("room")) == 1
