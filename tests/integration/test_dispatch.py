"""Requests for an agent: reuse of a good one, else a new one."""

import asyncio
import json

import pytest

from fakes.faults import UNAVAILABLE, FailBefore
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, CLOCKS_APART, ON_BOTH, OTHER_AGENT, App, World, member_token, until


async def dispatched(app: App, room: str = "room", *, for_s: float = 6) -> str:
    """Dispatch an agent and let it join; the dispatch's id. After 5 s LiveKit shows its job."""
    answer = await app.dispatch(room)
    assert (answer.status, answer.body["reused"]) == (200, False), answer
    await app.advance(for_s)
    assert len(app.world.agents(room)) == 1
    return str(answer.body["dispatchId"])


@ON_BOTH
async def test_a_first_call_dispatches_an_agent(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT)

    answer = await app.dispatch()

    assert answer.status == 200
    assert answer.body == {
        "success": True,
        "dispatchId": world.dispatches("room")[0],
        "reused": False,
        "source": "dispatched",
        "state": "starting",
        "ttlExpiresAt": "2027-01-15T08:05:00.000Z",
        "message": "A new agent was dispatched",
        "metadataApplied": None,
        "warnings": [],
        "ready": False,
        "readyAfterMs": None,
        "queue": None,
    }
    await app.advance(1)
    assert [agent.agent_name for agent in world.agents("room")] == [AGENT]
    assert await app.state() == "idle"


async def test_a_whole_number_of_minutes_may_be_written_as_a_fraction(app: App, server: FakeServer) -> None:
    """JSON has one kind of number, and so have clients in JavaScript."""
    await app.dispatch(timezoneOffset=-60.0)

    (listed,) = server.rooms["room"].dispatches.values()
    assert listed.briefing.metadata == '{"timezoneOffset": -60}'


async def test_the_room_is_made_to_outlive_the_ttl(app: App, server: FakeServer) -> None:
    await app.dispatch()

    room = server.rooms["room"]
    assert (room.empty_timeout_s, room.departure_timeout_s) == (360, 360)


async def test_the_agent_is_told_the_time_zone_and_nothing_else(app: App, server: FakeServer) -> None:
    await app.dispatch(timezone="Europe/Berlin", timezoneOffset=-60)
    await app.dispatch("other")

    (listed,) = server.rooms["room"].dispatches.values()
    assert json.loads(listed.briefing.metadata) == {"timezone": "Europe/Berlin", "timezoneOffset": -60}
    (other,) = server.rooms["other"].dispatches.values()
    assert json.loads(other.briefing.metadata) == {}


async def test_a_member_of_the_room_may_ask(app: App, world: World) -> None:
    answer = await app.call(
        "POST", "/api/livekit/dispatch-agent", json_body={"roomName": "room"}, auth=member_token("room")
    )

    assert answer.status == 200
    assert len(world.dispatches("room")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_each_agent_name_has_a_dispatch_of_its_own(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(OTHER_AGENT)
    await app.dispatch()
    other = await app.dispatch(agentName=OTHER_AGENT)

    assert other.body["reused"] is False
    await app.advance(1)
    assert sorted(agent.agent_name for agent in world.agents("room")) == [AGENT, OTHER_AGENT]


# Reused


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_comes_while_livekit_is_asked_is_kept(
    app: App, world: World, server: FakeServer
) -> None:
    """LiveKit's list of participants is older than the row, which has its agent already."""
    first = await app.dispatch()
    server.join("room")
    await app.settle()
    asking = world.livekit.faults.hang("list_participants", acted=True)
    call = asyncio.ensure_future(app.dispatch())
    await asking.reached.wait()
    world.clock.advance(1)
    for webhook in world.post.take():
        await app.deliver(webhook)
    assert await app.state() == "active"
    asking.release()

    second = await call

    assert second.body["reused"] is True
    assert second.body["dispatchId"] == first.body["dispatchId"]
    assert len(world.agents("room")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_answers_is_reused_and_its_ttl_reset(app: App, world: World) -> None:
    dispatch_id = await dispatched(app)
    await app.advance(100)

    answer = await app.dispatch()

    assert answer.body == {
        "success": True,
        "dispatchId": dispatch_id,
        "reused": True,
        "source": "reused",
        "state": "idle",
        # 106 s later than the first one's.
        "ttlExpiresAt": "2027-01-15T08:06:46.000Z",
        "message": "The existing agent is reused",
        "metadataApplied": None,
        "warnings": [],
        "ready": True,
        "readyAfterMs": None,
        "queue": None,
    }
    assert world.dispatches("room") == [dispatch_id]


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("age_s", [0.2, 1, 14])
async def test_an_agent_on_its_way_is_reused(
    app: App, world: World, server: FakeServer, age_s: float
) -> None:
    server.workers[0].joins_after_s = 14.5
    first = await app.dispatch()
    await app.advance(age_s)

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["state"]) == (True, "starting")
    assert world.dispatches("room") == [first.body["dispatchId"]]


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("age_s", [0.5, 3, 4.9])
async def test_an_agent_whose_job_is_not_listed_yet_is_reused(app: App, world: World, age_s: float) -> None:
    """LiveKit shows no jobs for five seconds, so a missing job proves nothing."""
    dispatch_id = await dispatched(app, for_s=age_s)

    answer = await app.dispatch()

    assert answer.body["reused"] is True
    assert world.dispatches("room") == [dispatch_id]


@pytest.mark.usefixtures("worker")
async def test_five_refreshes_keep_one_agent_with_the_helper(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await dispatched(app)
    for _ in range(5):
        server.join("room")
        await app.advance(1)
        answer = await app.dispatch()
        assert (answer.body["reused"], answer.body["state"]) == (True, "active")
        assert answer.body["ttlExpiresAt"] is None
        server.leave("room")
        await app.advance(0.1)

    assert world.dispatches("room") == [dispatch_id]
    assert world.agents("room")[0].answers("alice")


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
async def test_a_default_agent_is_reused_while_its_user_stays(app: App, server: FakeServer) -> None:
    dispatch_id = await dispatched(app)
    server.join("room")
    await app.settle()

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["dispatchId"]) == (True, dispatch_id)


@pytest.mark.usefixtures("plain_worker")
@pytest.mark.parametrize("reason", ["DUPLICATE_IDENTITY", "CONNECTION_TIMEOUT"])
async def test_a_default_agent_outlives_a_second_tab_and_a_lost_network(
    app: App, server: FakeServer, reason: str
) -> None:
    dispatch_id = await dispatched(app)
    server.join("room")
    await app.advance(1)
    server.leave("room", reason=reason)
    server.join("room")
    await app.settle()

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["dispatchId"]) == (True, dispatch_id)


@pytest.mark.usefixtures("plain_worker")
async def test_with_closes_with_user_off_default_agents_are_reused(
    start_app: StartApp, server: FakeServer
) -> None:
    app = await start_app(agent_closes_with_user=False)
    dispatch_id = await dispatched(app)
    server.join("room")
    server.leave("room")
    server.join("room")
    await app.settle()

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["dispatchId"]) == (True, dispatch_id)


# Replaced


async def assert_replaced(app: App, old_id: str, *, reason: str) -> None:
    """A call dispatches another agent, which answers; nothing is left of the old one."""
    old_agents = app.world.agents("room")
    answer = await app.dispatch()
    assert (answer.status, answer.body["reused"]) == (200, False)
    assert answer.body["dispatchId"] != old_id
    await app.advance(6)
    (agent,) = app.world.agents("room")
    assert agent not in old_agents
    assert agent.answers("alice")
    assert app.world.dispatches("room") == [answer.body["dispatchId"]]
    ended = await app.call("GET", f"/api/livekit/agents/{old_id}")
    assert (ended.body["agent"]["state"], ended.body["agent"]["endReason"]) == ("ended", reason)


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_reports_a_closed_session_is_replaced(app: App, world: World) -> None:
    old = await dispatched(app)
    world.agents("room")[0].session_open = False

    await assert_replaced(app, old, reason="replaced")


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
async def test_a_default_agent_is_replaced_after_a_refresh(
    app: App, world: World, server: FakeServer
) -> None:
    """It would never answer again, and LiveKit does not report that."""
    old = await dispatched(app)
    server.join("room")
    await app.advance(1)
    server.leave("room")
    await app.settle()
    assert not world.agents("room")[0].answers("alice")

    await assert_replaced(app, old, reason="replaced")


@pytest.mark.usefixtures("plain_worker")
async def test_a_default_agent_in_an_empty_room_is_replaced_after_lost_webhooks(
    app: App, world: World, server: FakeServer
) -> None:
    """Somebody may have come and gone: to replace an agent with nobody in interrupts no conversation."""
    old = await dispatched(app)
    server.join("room")
    server.leave("room")
    world.database_faults.down = True
    for webhook in world.post.take():
        assert (await app.deliver(webhook)).status == 503
    world.database_faults.down = False

    await assert_replaced(app, old, reason="replaced")


@pytest.mark.usefixtures("plain_worker")
async def test_a_default_agent_in_an_empty_room_is_replaced_though_no_webhook_came(
    app: App, world: World, server: FakeServer
) -> None:
    world.post.lossy = True
    old = await dispatched(app)
    server.join("room")
    server.leave("room")

    await assert_replaced(app, old, reason="replaced")


@pytest.mark.usefixtures("plain_worker")
async def test_a_default_agent_in_an_empty_room_is_replaced_if_it_is_older_than_the_service(
    app: App, start_app: StartApp, world: World, server: FakeServer
) -> None:
    old = await dispatched(app)
    await app.stop()
    server.join("room")
    server.leave("room")
    world.post.take()

    await assert_replaced(await start_app(), old, reason="replaced")


async def test_a_frozen_agent_is_replaced_and_removed(
    app: App, server: FakeServer, worker: FakeWorker
) -> None:
    old = await dispatched(app)
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)

    await assert_replaced(app, old, reason="replaced")


@pytest.mark.usefixtures("worker")
async def test_a_lost_probe_costs_nobody_the_agent(app: App, world: World) -> None:
    old = await dispatched(app)
    lost = world.livekit.faults.hang("probe")

    answer = await app.dispatch()

    assert lost.reached.is_set()
    assert (answer.body["dispatchId"], answer.body["reused"]) == (old, True)
    assert world.dispatches("room") == [old]


@pytest.mark.parametrize("second", [FailBefore(UNAVAILABLE), None], ids=["fails", "silent"])
async def test_if_a_second_probe_does_not_help_the_first_decides(
    app: App, world: World, server: FakeServer, worker: FakeWorker, second: FailBefore | None
) -> None:
    old = await dispatched(app)
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)
    asked = world.livekit.count("probe")
    first = world.livekit.faults.hang("probe")
    world.livekit.faults.script("probe", second)

    replacing = asyncio.create_task(assert_replaced(app, old, reason="replaced"))
    await until(lambda: world.livekit.count("probe") == asked + 2)
    first.release()

    await replacing


async def test_a_killed_agent_is_replaced_and_removed(
    app: App, server: FakeServer, worker: FakeWorker
) -> None:
    """LiveKit keeps its participant for 21 s, even if the dispatch is deleted."""
    old = await dispatched(app)
    server.kill(worker)
    server.start_worker(AGENT)

    await assert_replaced(app, old, reason="replaced")


@CLOCKS_APART
async def test_an_agent_that_joined_and_froze_at_once_is_replaced(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    old = await dispatched(app)
    world.agents("room")[0].connected = False
    assert (await app.dispatch()).body["reused"] is True
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)
    await app.advance(14)

    await assert_replaced(app, old, reason="replaced")


# Cleaned up and created again


@pytest.mark.usefixtures("worker")
async def test_a_dispatch_that_livekit_does_not_list_is_cleaned_up(
    app: App, world: World, server: FakeServer
) -> None:
    old = await dispatched(app)
    server.delete_dispatch(server.rooms["room"], old)
    world.post.lossy = True
    await app.advance(1)
    world.post.lossy = False

    await assert_replaced(app, old, reason="agent_failed")


@pytest.mark.usefixtures("worker")
async def test_a_room_that_is_gone_is_created_again(app: App, world: World, server: FakeServer) -> None:
    old = await dispatched(app)
    world.post.lossy = True
    server.delete_room("room")
    world.post.lossy = False
    world.clock.advance(1)

    await assert_replaced(app, old, reason="room_finished")
    assert server.rooms["room"].departure_timeout_s == 360


@ON_BOTH
async def test_a_dispatch_without_an_agent_is_replaced(app: App, world: World, server: FakeServer) -> None:
    first = await app.dispatch()
    await app.advance(16)
    server.start_worker(AGENT)

    await assert_replaced(app, first.body["dispatchId"], reason="never_joined")
    assert len(world.dispatches("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_an_agent_whose_leave_was_missed_is_replaced(
    app: App, world: World, server: FakeServer
) -> None:
    old = await dispatched(app)
    world.post.lossy = True
    server.leave("room", world.agents("room")[0].identity)
    world.post.lossy = False

    await assert_replaced(app, old, reason="agent_failed")


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_finished_is_replaced_on_request(
    app: App, world: World, server: FakeServer
) -> None:
    old = await dispatched(app)
    server.join("room")
    await app.advance(20)
    server.leave("room", world.agents("room")[0].identity)
    await app.settle()
    await app.advance(2)
    assert await app.status() == {"hasAgent": False, "state": "none"}

    await assert_replaced(app, old, reason="agent_left")


# Several


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_of_several_responsive_agents_the_tracked_one_is_kept(
    app: App, world: World, server: FakeServer
) -> None:
    ours = await dispatched(app)
    world.post.lossy = True
    for _ in range(3):
        server.create_dispatch("room", AGENT)
    await app.advance(1)
    assert len(world.agents("room")) == 4

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["dispatchId"]) == (True, ours)
    assert world.dispatches("room") == [ours]
    await app.advance(6)
    assert len(world.agents("room")) == 1


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_of_several_agents_the_responsive_one_is_kept_even_if_untracked(
    app: App, world: World, server: FakeServer
) -> None:
    ours = await dispatched(app)
    world.agents("room")[0].session_open = False
    world.post.lossy = True
    other = server.create_dispatch("room", AGENT)
    await app.advance(6)

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["dispatchId"]) == (True, other.id)
    await app.advance(6)
    assert world.dispatches("room") == [other.id]
    assert [agent.identity for agent in world.agents("room")] == [other.job]
    ended = await app.call("GET", f"/api/livekit/agents/{ours}")
    assert ended.body["agent"]["endReason"] == "duplicate"


@ON_BOTH
@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_another_tool_dispatched_is_reused(
    app: App, world: World, server: FakeServer
) -> None:
    world.post.lossy = True
    server.create_dispatch("room", AGENT)
    newest = server.create_dispatch("room", AGENT)
    await app.advance(6)

    answer = await app.dispatch()

    assert (answer.body["reused"], answer.body["state"]) == (True, "idle")
    assert world.dispatches("room") == [answer.body["dispatchId"]]
    assert answer.body["dispatchId"] == newest.id or len(world.dispatches("room")) == 1
    assert await app.state() == "idle"


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
@pytest.mark.parametrize("refreshes", [True, False])
async def test_another_tools_default_agent_is_reused_while_its_user_stays(
    app: App,
    world: World,
    server: FakeServer,
    refreshes: bool,  # noqa: FBT001 - a column
) -> None:
    """No row has its join time; a person who left before it joined has not closed its session."""
    server.join("room", "bob")
    server.leave("room", "bob")
    await app.advance(60)
    world.post.lossy = True
    dispatch = server.create_dispatch("room", AGENT)
    await app.advance(10)
    world.post.lossy = False
    server.join("room")
    await app.advance(10)
    if refreshes:
        server.leave("room")
        server.join("room")
    await app.settle()

    answer = await app.dispatch()

    assert answer.body["reused"] is not refreshes
    assert (dispatch.id in world.dispatches("room")) is not refreshes


@pytest.mark.usefixtures("worker")
async def test_an_agent_of_another_name_is_left_alone(app: App, world: World, server: FakeServer) -> None:
    server.start_worker("somebody-elses")
    server.create_dispatch("room", "somebody-elses")
    await app.advance(6)

    await app.dispatch()
    await app.pass_time(1)
    await app.end()
    await app.pass_time(6)

    assert [agent.agent_name for agent in world.agents("room")] == ["somebody-elses"]
