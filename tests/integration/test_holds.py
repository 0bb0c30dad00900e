"""Holds: a human takes over, the agent leaves, and nothing brings it back until it is resumed."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.config.agents import AgentPolicy
from app.lifecycle import Restart
from app.lifecycle.mode import Mode
from fakes.faults import REFUSED, UNAVAILABLE, UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    AGENTS,
    API_KEY,
    DISPATCH,
    ON_BOTH,
    OTHER_AGENT,
    TOKEN,
    Answer,
    App,
    World,
    member_token,
)

POLICY = AgentPolicy(ttl_s=300, join_timeout_s=15)


async def hold(app: App, dispatch_id: str, auth: str = API_KEY) -> Answer:
    return await app.call("POST", f"{AGENTS}/{dispatch_id}/hold", auth=auth)


async def resume(app: App, dispatch_id: str, auth: str = API_KEY) -> Answer:
    return await app.call("POST", f"{AGENTS}/{dispatch_id}/resume", auth=auth)


async def talk(app: App, server: FakeServer, **fields: Any) -> str:
    """Alice is in with her agent; the id of its dispatch."""
    asked = await app.dispatch(**fields)
    assert asked.status == 200, asked
    server.join("room")
    await app.advance(6)
    assert await app.state() == "active"
    return str(asked.body["dispatchId"])


async def talk_and_hold(app: App, server: FakeServer, **fields: Any) -> str:
    dispatch_id = await talk(app, server, **fields)
    assert (await hold(app, dispatch_id)).status == 200
    await app.settle()
    return dispatch_id


def states(world: World) -> list[str]:
    return [row["state"] for row in world.rows("dispatches") if row["state"] != "ended"]


# The hold


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_agent_on_hold_is_gone_when_the_call_is_answered(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk(app, server)

    answer = await hold(app, dispatch_id)

    assert world.agents("room") == []
    assert world.dispatches("room") == []
    assert answer.status == 200
    names = ("success", "dispatchId", "reused", "source", "state", "message")
    told = {name: answer.body[name] for name in names}
    assert told == {
        "success": True,
        "dispatchId": None,
        "reused": False,
        "source": None,
        "state": "on_hold",
        "message": "A human has taken over: no agent comes until it is resumed",
    }
    status = await app.status()
    assert (status["hasAgent"], status["state"], status["dispatchId"]) == (False, "on_hold", None)
    history = await app.call("GET", f"{AGENTS}/{dispatch_id}")
    assert (history.body["agent"]["state"], history.body["agent"]["endReason"]) == ("ended", "on_hold")
    [listed] = await app.listed()
    assert (listed["state"], listed["roomName"]) == ("on_hold", "room")


@pytest.mark.usefixtures("worker")
async def test_to_hold_twice_changes_nothing(app: App, world: World, server: FakeServer) -> None:
    dispatch_id = await talk(app, server)
    first = await hold(app, dispatch_id)
    await app.settle()
    before = world.tables()

    second = await hold(app, dispatch_id)

    assert (second.status, second.body) == (first.status, first.body)
    assert world.tables() == before


async def test_an_unknown_dispatch_is_404(app: App) -> None:
    for answer in (await hold(app, "AD_none"), await resume(app, "AD_none")):
        assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.usefixtures("worker")
async def test_without_an_agent_there_is_nothing_to_hold_or_resume(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk(app, server)
    await app.end()
    await app.advance(1)
    before = world.tables()

    for answer in (await hold(app, dispatch_id), await resume(app, dispatch_id)):
        assert (answer.status, answer.code, answer.body["retryable"]) == (409, "conflict", False)
    assert world.tables() == before


@pytest.mark.parametrize("settings", [{}, {"restart": Restart.ALWAYS}], ids=["on-failure", "always"])
async def test_an_agent_that_has_not_joined_yet_is_held(
    start_app: StartApp, world: World, server: FakeServer, settings: dict[str, Any]
) -> None:
    app = await start_app(**settings)
    server.start_worker(AGENT, joins_after_s=10)
    server.join("room")
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    assert await app.state() == "starting"

    await hold(app, dispatch_id)

    for _ in range(20):
        await app.pass_time(1)
    assert world.agents("room") == []
    assert states(world) == ["on_hold"]


@pytest.mark.usefixtures("worker")
async def test_a_hold_waits_for_a_creation_under_way(app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    stuck = world.livekit.faults.hang("create_dispatch")
    asked = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    [row] = world.rows("dispatches")
    held = asyncio.create_task(hold(app, row["id"]))
    stuck.release()

    assert (await asked).status == 200
    assert (await held).body["state"] == "on_hold"
    await app.advance(6)
    assert world.agents("room") == []
    assert states(world) == ["on_hold"]


async def test_an_unavailable_agent_is_held_and_not_retried(
    app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    asked = await app.dispatch()
    for _ in range(60):
        await app.pass_time(1)
        if states(world) == ["unavailable"]:
            break
    assert await app.state() == "unavailable"
    made = world.livekit.count("create_dispatch")

    await hold(app, asked.body["dispatchId"])

    server.start_worker(AGENT)
    for _ in range(30):
        await app.pass_time(1)
    assert (await app.state(), world.livekit.count("create_dispatch")) == ("on_hold", made)
    answer = await resume(app, asked.body["dispatchId"])
    await app.advance(1)
    assert (answer.body["state"], len(world.agents("room"))) == ("starting", 1)
    [row] = [row for row in world.rows("dispatches") if row["state"] != "ended"]
    assert row["attempt"] == 1


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_is_ending_is_held_and_does_not_return(
    app: App, world: World, server: FakeServer
) -> None:
    """Its TTL has passed, LiveKit does not answer, and somebody has come in the meantime."""
    dispatch_id = await talk(app, server)
    server.leave("room")
    await app.settle()
    stuck = world.livekit.faults.hang("list_participants", acted=True)
    world.clock.advance(301)
    sweep = asyncio.create_task(app.service.sweeper.sweep())
    await stuck.reached.wait()
    server.join("room", "bob")
    held = asyncio.create_task(hold(app, dispatch_id))
    stuck.release()
    await sweep

    assert (await held).body["state"] == "on_hold"
    await app.settle()
    for _ in range(3):
        await app.pass_time(20)
    assert world.agents("room") == []
    assert states(world) == ["on_hold"]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_hold_is_stored_while_livekit_is_down_and_the_agent_leaves_later(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk(app, server)
    world.livekit.faults.everywhere(FailBefore(UNREACHABLE))

    answer = await hold(app, dispatch_id)

    assert (answer.status, answer.body["state"]) == (200, "on_hold")
    assert len(world.agents("room")) == 1
    await app.settle()
    world.livekit.faults.mend()
    await app.pass_time(60)
    assert world.agents("room") == []
    assert states(world) == ["on_hold"]


# What does not bring it back


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_no_refresh_and_no_tab_brings_it_back(app: App, world: World, server: FakeServer) -> None:
    await talk_and_hold(app, server)
    made = world.livekit.count("create_dispatch")

    answers = []
    for tab in ("alice", "bob", "carol"):
        server.leave("room", "alice") if tab == "alice" else None
        await app.settle()
        answers += await asyncio.gather(*(app.dispatch() for _ in range(3)))
        server.join("room", tab)
        await app.advance(30)

    assert {(answer.status, answer.body["state"]) for answer in answers} == {(200, "on_hold")}
    told = [(answer.body["dispatchId"], answer.body["reused"], answer.body["success"]) for answer in answers]
    assert set(told) == {(None, False, True)}
    assert world.livekit.count("create_dispatch") == made
    assert world.agents("room") == []
    _, _, metrics = await app.scrape()
    assert 'agent_lifecycle_dispatch_requests_total{result="on_hold"} 9.0' in metrics


@pytest.mark.usefixtures("worker")
async def test_a_call_with_metadata_says_that_nobody_was_told(
    app: App, world: World, server: FakeServer
) -> None:
    await talk_and_hold(app, server, metadata="a")
    same = await app.dispatch(metadata="a")
    other = await app.dispatch(metadata="b", replaceIfMetadataDiffers=True)

    assert [answer.body["metadataApplied"] for answer in (same, other)] == [False, False]
    assert await app.state() == "on_hold"
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.parametrize("died", [False, True], ids=["before", "with it"])
async def test_no_restart_rule_brings_it_back(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker, *, died: bool
) -> None:
    app = await start_app(restart=Restart.ALWAYS)
    dispatch_id = await talk(app, server)
    server.start_worker(AGENT)
    if died:
        server.kill(worker)
    await hold(app, dispatch_id)
    server.kill(worker)

    for _ in range(4):
        await app.pass_time(15)

    assert states(world) == ["on_hold"]
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_hold_survives_the_service_and_lost_webhooks(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start_app()
    dispatch_id = await talk_and_hold(app, server)
    await app.stop()
    server.leave("room")
    server.join("room", "bob")
    world.post.take()

    again = await start_app()

    assert await again.state() == "on_hold"
    assert (await again.status())["participantCount"] == 1
    for _ in range(12):
        await again.pass_time(60)
    assert states(world) == ["on_hold"]
    assert world.agents("room") == []
    answer = await resume(again, dispatch_id)
    await again.advance(1)
    assert (answer.status, len(world.agents("room"))) == (200, 1)


@pytest.mark.usefixtures("worker")
async def test_a_room_on_hold_is_not_inspected_in_every_round(
    app: App, server: FakeServer, livekit: FakeLiveKit
) -> None:
    await talk_and_hold(app, server)
    await app.pass_time(60)
    before = livekit.count("list_dispatches")

    for _ in range(10):
        await app.pass_time(60)

    # Its turn comes once in ten rounds; an inspection lists twice.
    assert livekit.count("list_dispatches") - before <= 2


@ON_BOTH
async def test_a_foreign_agent_is_removed_during_a_hold(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    await talk_and_hold(app, server)
    # LiveKit has forgotten who serves the name, so that it shows the job after the agent's join.
    await app.advance(70)

    server.create_dispatch("room", AGENT)
    await app.advance(1)

    assert world.agents("room") == []
    assert world.dispatches("room") == []
    assert states(world) == ["on_hold"]
    # Of another name it is none of the hold's business.
    server.start_worker(OTHER_AGENT)
    await app.dispatch(agentName=OTHER_AGENT)
    await app.advance(6)
    assert [agent.agent_name for agent in world.agents("room")] == [OTHER_AGENT]
    assert await app.state() == "on_hold"


@pytest.mark.usefixtures("worker")
async def test_a_dispatch_of_its_own_that_came_too_late_is_removed(
    app: App, world: World, server: FakeServer
) -> None:
    """A process that had lost its lease made it, and died before it could delete it."""
    await talk_and_hold(app, server)
    [held] = [row for row in world.rows("dispatches") if row["state"] == "on_hold"]

    server.create_dispatch("room", AGENT, held["id"])
    await app.advance(1)

    assert world.agents("room") == []
    assert world.dispatches("room") == []
    assert states(world) == ["on_hold"]


@pytest.mark.parametrize("mode", [Mode.REUSE, Mode.OBSERVE])
@pytest.mark.usefixtures("worker")
async def test_a_hold_is_obeyed_in_every_mode(
    start_app: StartApp, world: World, server: FakeServer, mode: Mode
) -> None:
    app = await start_app(mode=mode)
    dispatch_id = await talk_and_hold(app, server)

    assert (await app.dispatch()).body["state"] == "on_hold"
    assert world.agents("room") == []
    await resume(app, dispatch_id)
    await app.advance(1)
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_the_token_endpoint_brings_no_agent_during_a_hold(
    app: App, world: World, server: FakeServer
) -> None:
    await talk_and_hold(app, server)
    answer = await app.call(
        "POST", TOKEN, json_body={"room_name": "room", "room_config": {"agents": [{"agent_name": AGENT}]}}
    )
    await app.advance(6)
    assert (answer.status, await app.state()) == (201, "on_hold")
    assert world.agents("room") == []


# Its end


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("by", ["old id", "new id", "call"])
async def test_a_resumed_agent_comes_and_answers(app: App, world: World, server: FakeServer, by: str) -> None:
    dispatch_id = await talk_and_hold(app, server, metadata="told")
    await app.advance(3_600)
    [held] = await app.listed()

    match by:
        case "old id":
            answer = await resume(app, dispatch_id)
        case "new id":
            answer = await resume(app, held["dispatchId"])
        case _:
            answer = await app.dispatch(resume=True)

    assert (answer.status, answer.body["state"], answer.body["reused"]) == (200, "starting", False)
    assert world.dispatches("room") == [answer.body["dispatchId"]]
    await app.advance(1)
    assert [agent.answers("alice") for agent in world.agents("room")] == [True]
    assert await app.state() == "active"
    [dispatch] = world.livekit.server.rooms["room"].dispatches.values()
    assert dispatch.briefing.metadata == "told"
    assert (await app.dispatch()).body["reused"] is True


@pytest.mark.usefixtures("worker")
async def test_many_calls_to_resume_bring_one_agent(app: App, world: World, server: FakeServer) -> None:
    dispatch_id = await talk_and_hold(app, server)
    made = world.livekit.count("create_dispatch")

    answers = await asyncio.gather(
        *(app.dispatch(resume=True) for _ in range(5)), *(resume(app, dispatch_id) for _ in range(5))
    )

    assert {answer.status for answer in answers} == {200}
    assert [answer.body["reused"] for answer in answers].count(False) == 1
    assert world.livekit.count("create_dispatch") == made + 1


@pytest.mark.usefixtures("worker")
async def test_the_resumed_agent_is_told_what_the_call_says(
    app: App, world: World, server: FakeServer
) -> None:
    await talk_and_hold(app, server, metadata="a")
    answer = await app.dispatch(resume=True, metadata="b")
    [dispatch] = world.livekit.server.rooms["room"].dispatches.values()
    assert (dispatch.briefing.metadata, answer.body["metadataApplied"]) == ("b", True)


@pytest.mark.usefixtures("worker")
async def test_to_resume_what_is_not_on_hold_returns_the_agent(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk(app, server)
    answer = await resume(app, dispatch_id)
    assert (answer.status, answer.body["dispatchId"], answer.body["reused"]) == (200, dispatch_id, True)
    assert world.livekit.count("create_dispatch") == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_hold_keeps_its_place_so_that_a_resume_is_never_refused(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start_app(agents={AGENT: replace(POLICY, max_agents=1), OTHER_AGENT: POLICY})
    dispatch_id = await talk_and_hold(app, server)

    assert (await app.dispatch("other")).code == "at_capacity"

    assert (await resume(app, dispatch_id)).body["state"] == "starting"
    await app.advance(1)
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_to_wait_for_an_agent_on_hold_is_409(app: App, server: FakeServer) -> None:
    await talk_and_hold(app, server)
    answer = await app.dispatch(wait="ready")
    assert (answer.status, answer.code, answer.body["retryable"]) == (409, "on_hold", False)


async def test_a_resumed_agent_that_starts_slowly_is_waited_for(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """The wait counts from the resume, not from the hold."""
    dispatch_id = await talk_and_hold(app, server)
    await app.advance(1_000)
    worker.joins_after_s = 25
    await resume(app, dispatch_id)
    made = world.livekit.count("create_dispatch")
    for _ in range(30):
        await app.pass_time(1)
    assert (await app.state(), world.livekit.count("create_dispatch")) == ("active", made)


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_livekit_refuses_at_the_resume_comes_later(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk_and_hold(app, server)
    world.livekit.faults.script("create_dispatch", FailBefore(REFUSED))

    answer = await resume(app, dispatch_id)

    assert (answer.status, answer.code) == (502, "livekit_refused")
    for _ in range(3):
        await app.pass_time(1)
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_while_livekit_cannot_be_asked_the_hold_stands(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await talk_and_hold(app, server)
    world.livekit.faults.always("find_room", FailBefore(UNAVAILABLE))
    answer = await resume(app, dispatch_id)
    assert (answer.status, answer.code) == (503, "livekit_unavailable")
    assert states(world) == ["on_hold"]


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("announced", [True, False])
async def test_the_end_of_the_room_ends_the_hold(
    app: App, world: World, server: FakeServer, *, announced: bool
) -> None:
    dispatch_id = await talk_and_hold(app, server)
    server.delete_room("room")
    if not announced:
        world.post.take()
    await app.pass_time(60)

    assert await app.status() == {"hasAgent": False, "state": "none"}
    assert (await resume(app, dispatch_id)).code == "conflict"
    server.join("room")
    assert (await app.dispatch()).body["state"] == "starting"


@pytest.mark.usefixtures("worker")
async def test_a_new_room_of_that_name_is_not_on_hold(app: App, world: World, server: FakeServer) -> None:
    """Nobody has told the service that the room was closed: LiveKit is asked."""
    await talk_and_hold(app, server)
    server.delete_room("room")
    server.join("room")
    world.post.take()
    assert (await app.dispatch()).body["state"] == "starting"


@pytest.mark.usefixtures("worker")
async def test_delete_ends_the_hold(app: App, server: FakeServer) -> None:
    await talk_and_hold(app, server)
    answer = await app.end()
    assert answer.status == 200
    assert await app.state() == "none"
    assert (await app.dispatch()).body["state"] == "starting"


@pytest.mark.usefixtures("worker")
async def test_to_give_back_an_agent_ends_no_hold(app: App, server: FakeServer) -> None:
    """Somebody who could not join does so, while nobody is in."""
    await talk_and_hold(app, server)
    server.leave("room")
    await app.settle()
    answer = await app.end(onlyIfEmpty="true")
    assert (answer.status, answer.body["dispatchId"]) == (200, None)
    assert await app.state() == "on_hold"


# Who may


@pytest.mark.usefixtures("worker")
async def test_a_participant_may_not_hold_or_resume(app: App, world: World, server: FakeServer) -> None:
    dispatch_id = await talk(app, server)
    member = member_token("room")
    assert [(await one(app, dispatch_id, member)).status for one in (hold, resume)] == [403, 403]
    assert await app.state() == "active"
    await hold(app, dispatch_id)
    asked = await app.call("POST", DISPATCH, auth=member, json_body={"roomName": "room", "resume": True})
    assert (asked.status, asked.code) == (403, "forbidden")
    assert "members_may_hold" in asked.body["message"]
    ended = await app.call("DELETE", DISPATCH, auth=member, params={"roomName": "room"})
    assert (ended.status, ended.code) == (403, "forbidden")
    assert states(world) == ["on_hold"]


@pytest.mark.usefixtures("worker")
async def test_where_the_policy_says_so_a_participant_holds_the_agent_of_its_own_room(
    start_app: StartApp, server: FakeServer
) -> None:
    policies = {AGENT: replace(POLICY, members_may_hold=True), OTHER_AGENT: POLICY}
    app = await start_app(agents=policies)
    dispatch_id = await talk(app, server)
    stranger, member = member_token("another"), member_token("room")
    for asked in (dispatch_id, "AD_none"):
        answers = [await one(app, asked, stranger) for one in (hold, resume)]
        assert [answer.body["message"] for answer in answers] == ["The token is for another room"] * 2
    assert await app.state() == "active"

    assert (await hold(app, dispatch_id, member)).body["state"] == "on_hold"
    assert (await resume(app, dispatch_id, member)).body["state"] == "starting"
    await app.advance(6)
    await hold(app, dispatch_id, member)
    answer = await app.call("POST", DISPATCH, auth=member, json_body={"roomName": "room", "resume": True})
    assert (answer.status, answer.body["state"]) == (200, "starting")
    await hold(app, answer.body["dispatchId"], member)
    ended = await app.call("DELETE", DISPATCH, auth=member, params={"roomName": "room"})
    assert (ended.status, await app.state()) == (200, "none")
