"""Agents unlike the example: slow ones, failing ones, with avatars, several of one dispatch."""

import pytest

from app.lifecycle import Restart
from app.state.presence import ParticipantKind
from fakes.faults import UNAVAILABLE, FailAfter
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeAgent, FakeDispatch, FakeParticipant
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, CLOCKS_APART, ON_BOTH, App, World


async def waited_for(app: App, server: FakeServer, seconds: int) -> None:
    """Alice is in and waits, second by second as the timers would fire."""
    server.join("room")
    await app.dispatch()
    for _ in range(seconds):
        await app.pass_time(1)


# Slow starts


@CLOCKS_APART
async def test_a_worker_that_holds_the_job_is_waited_for(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT, joins_after_s=25)
    await waited_for(app, server, 30)

    assert await app.state() == "active"
    assert world.livekit.count("create_dispatch") == 1


async def test_the_wait_grows_from_try_to_try(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT, joins_after_s=100)
    await waited_for(app, server, 300)

    assert await app.state() == "active"
    # 30 s, 60 s, and then long enough.
    assert world.livekit.count("create_dispatch") == 3


@CLOCKS_APART
@pytest.mark.parametrize("loads_s", [31, 37, 44])
async def test_an_agent_whose_job_is_over_and_that_connects_once_more_is_not_its_successors(
    app: App, world: World, server: FakeServer, loads_s: int
) -> None:
    """Else the successor would be given up with it, and nobody would ever get in."""
    server.start_worker(AGENT, joins_after_s=loads_s)
    await waited_for(app, server, 30 + loads_s + 8)

    assert await app.state() == "active"
    assert world.livekit.count("create_dispatch") == 2
    assert [agent.answers("alice") for agent in world.agents("room")] == [True]


async def test_a_slow_agent_that_was_replaced_is_not_its_replacement(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, joins_after_s=12)
    server.join("room")
    await app.dispatch(metadata="a")
    await app.advance(7)
    second = await app.dispatch(metadata="b", replaceIfMetadataDiffers=True)
    for _ in range(14):
        await app.pass_time(1)

    assert await app.state() == "active"
    assert world.dispatches("room") == [second.body["dispatchId"]]
    assert world.livekit.count("create_dispatch") == 2


async def test_a_call_waits_for_an_agent_that_a_worker_is_starting(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, joins_after_s=25)
    await waited_for(app, server, 20)
    answer = await app.dispatch()
    assert (answer.body["reused"], answer.body["state"]) == (True, "starting")
    assert world.livekit.count("create_dispatch") == 1


async def test_without_a_worker_nothing_is_waited_for(app: App, world: World, server: FakeServer) -> None:
    await waited_for(app, server, 10)
    assert world.livekit.count("create_dispatch") == 2


async def test_the_alert_names_the_cause_and_the_setting(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT, joins_after_s=10_000)
    await waited_for(app, server, 250)
    [row] = [row for row in world.rows("dispatches") if row["state"] != "ended"]
    assert row["cause"] == "join_overdue"
    facts = await app.service.store.facts(3)
    assert [dispatch.cause for dispatch in facts.unserved] == ["join_overdue"]


# Leaves


async def leaves_after(app: App, world: World, server: FakeServer, seconds: float, **attributes: str) -> None:
    """The plain agent that answers Alice leaves by itself, so long after its join."""
    server.join("room")
    await app.dispatch()
    await app.advance(1)
    [agent] = world.agents("room")
    agent.attributes.update(attributes)
    await app.advance(seconds - 0.6)
    server.leave("room", agent.identity)
    await app.settle()
    await app.advance(1)


@ON_BOTH
@pytest.mark.usefixtures("plain_worker")
async def test_a_wordless_leave_within_seconds_of_joining_is_a_failure(
    app: App, world: World, server: FakeServer
) -> None:
    await leaves_after(app, world, server, 3)
    assert len(world.agents("room")) == 1
    assert await app.state() == "active"


@pytest.mark.usefixtures("plain_worker")
async def test_a_leave_before_the_session_was_ready_is_a_failure(
    app: App, world: World, server: FakeServer
) -> None:
    await leaves_after(app, world, server, 40, **{"lk.agent.state": "initializing"})
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("plain_worker")
async def test_a_wordless_leave_after_a_conversation_is_its_end(
    app: App, world: World, server: FakeServer
) -> None:
    await leaves_after(app, world, server, 40, **{"lk.agent.state": "listening"})
    assert world.agents("room") == []
    assert await app.state() == "none"


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_says_that_it_has_finished_is_believed_at_any_time(
    app: App, world: World, server: FakeServer
) -> None:
    await leaves_after(app, world, server, 3, **{"agent-lifecycle.leaving": "finished"})
    assert world.agents("room") == []


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
@pytest.mark.parametrize(
    ("alone", "goes_after_s", "stays_ended"), [(False, 20, True), (False, 300, False), (True, 20, False)]
)
async def test_a_hand_over_stays_ended_and_a_drain_does_not(
    start_app: StartApp,
    world: World,
    server: FakeServer,
    alone: bool,  # noqa: FBT001 - a column
    goes_after_s: int,
    stays_ended: bool,  # noqa: FBT001 - a column
) -> None:
    app = await start_app(restart=Restart.ALWAYS)
    server.join("room")
    await app.dispatch()
    await app.advance(60)
    if not alone:
        server.join("room", "a human")
    await app.advance(goes_after_s)
    [agent] = world.agents("room")
    server.leave("room", agent.identity)
    await app.settle()
    await app.advance(1)

    assert (world.agents("room") == []) is stays_ended


# Several agents of one dispatch


def join_again(server: FakeServer, dispatch: FakeDispatch, number: int) -> FakeAgent:
    """Another job of the dispatch, for another publisher."""
    [first] = [agent for agent in server.rooms["room"].agents if agent.identity == dispatch.job]
    return server.join_companion("room", dispatch, first.worker, f"agent-AJ_companion{number}")


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_all_jobs_of_a_dispatch_are_its_agents(app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    await app.dispatch()
    await app.advance(6)
    [dispatch] = server.rooms["room"].dispatches.values()
    for number in range(2):
        join_again(server, dispatch, number)
        await app.settle()
    for _ in range(12):
        await app.pass_time(60)
    assert len(world.agents("room")) == 3
    assert (await app.dispatch()).body["reused"] is True

    first = dispatch.job or ""
    server.leave("room", first)
    await app.settle()
    await app.advance(1)
    assert await app.state() == "active"
    assert len(world.agents("room")) == 2

    await app.end()
    await app.advance(6)
    assert world.agents("room") == []


async def test_no_publisher_yet_is_no_fault(start_app: StartApp, world: World, server: FakeServer) -> None:
    app = await start_app(publisher_agents=(AGENT,))
    await waited_for(app, server, 120)

    assert await app.state() == "starting"
    assert world.livekit.count("create_dispatch") == 1
    worker = server.start_worker(AGENT)
    [dispatch] = server.rooms["room"].dispatches.values()
    agent = server.join_companion("room", dispatch, worker, "agent-AJ_1")
    await app.advance(1)
    assert await app.state() == "active"

    await app.advance(60)
    server.leave("room", agent.identity)
    await app.settle()
    await app.advance(1)
    assert await app.state() == "starting"
    assert list(server.rooms["room"].dispatches) == [dispatch.id]


# Avatars


async def with_avatar(app: App, world: World, server: FakeServer) -> tuple[FakeAgent, FakeParticipant]:
    server.join("room")
    await app.dispatch()
    await app.advance(1)
    [agent] = world.agents("room")
    avatar = server.join_avatar("room", agent)
    await app.advance(1)
    return agent, avatar


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_an_avatar_is_no_drift_and_costs_no_calls(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    await with_avatar(app, world, server)
    await app.sweep()
    before = dict(app.service.reconciler.drift)
    calls = len(livekit.calls)
    await app.sweep()
    assert [call.method for call in livekit.calls[calls:]] in (
        ["list_rooms", "list_participants"],
        # One round in ten inspects the room.
        ["list_rooms", "find_room", "list_dispatches", "list_participants", "find_room"],
    )
    assert dict(app.service.reconciler.drift) == before
    assert (await app.status())["participantCount"] == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("agent_stays", [True, False])
async def test_an_avatar_goes_with_its_agent(
    app: App,
    world: World,
    server: FakeServer,
    agent_stays: bool,  # noqa: FBT001 - a column
) -> None:
    agent, _ = await with_avatar(app, world, server)
    await app.advance(20)
    if agent_stays:
        await app.end()
    else:
        server.leave("room", agent.identity)
    await app.settle()
    await app.advance(6)
    kinds = [one.kind for one in server.rooms["room"].participants.values()]
    assert kinds == [ParticipantKind.PERSON]


# Fixed identities


@pytest.mark.usefixtures("worker")
async def test_the_end_of_an_old_dispatch_does_not_put_out_a_new_agent_of_its_identity(
    app: App, world: World, server: FakeServer
) -> None:
    server.fixed_identity = "assistant"
    server.join("room")
    first = await app.dispatch()
    await app.advance(6)
    world.agents("room")[0].session_open = False

    second = await app.dispatch()
    for _ in range(10):
        await app.advance(1)

    assert second.body["reused"] is False
    assert [agent.identity for agent in world.agents("room")] == ["assistant"]
    assert world.agents("room")[0].answers("alice")
    assert world.dispatches("room") == [second.body["dispatchId"]]
    ended = await app.call("GET", f"{AGENTS}/{first.body['dispatchId']}")
    assert ended.body["agent"]["endReason"] == "replaced"


# Old servers


@pytest.mark.usefixtures("plain_worker")
async def test_without_the_probe_reuse_rests_on_presence_and_the_leave_rule(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.has_probe = False
    app = await start_app()
    server.join("room")
    await app.dispatch()
    await app.advance(1)
    await app.service.liveness.probe_all()
    await app.settle()
    assert (await app.dispatch()).body["reused"] is True
    server.leave("room")
    server.join("room")
    await app.settle()
    await app.advance(1)
    assert world.agents("room")[0].answers("alice")
    assert (await app.end()).status == 200
    await app.advance(6)
    assert world.agents("room") == []
    ready = await app.call("GET", "/readyz")
    assert (ready.status, ready.body["missing"]) == (200, ["probe"])


@ON_BOTH
@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_a_lost_answer_makes_no_second_dispatch_where_none_keeps_the_rows_id(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    server.keeps_attributes = False
    server.join("room")
    await app.settle()
    server.create_dispatch("room", "another-agent")
    livekit.faults.script("create_dispatch", FailAfter(UNAVAILABLE))

    answer = await app.dispatch(metadata={"customer": 1})
    await app.advance(1)

    assert answer.status == 200
    assert livekit.count("create_dispatch") == 1
    assert [agent.answers("alice") for agent in world.agents("room")] == [True]


@pytest.mark.usefixtures("worker")
async def test_what_this_livekit_is_too_old_for_is_told(
    app: App, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.keeps_attributes = False
    for room in ("one", "two"):
        assert (await app.dispatch(room)).status == 200
    assert (await app.call("GET", "/readyz")).body["missing"] == ["attributes"]
    assert [vars(record)["oldest"] for record in caplog.records if "too old" in record.message] == ["1.13.2"]


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_whose_dispatch_was_removed_before_it_was_in_costs_nobody_the_other_one(
    app: App, world: World, server: FakeServer
) -> None:
    """It connects and leaves at once, at the moment in which the agent that stays joins."""
    kept, removed = (server.create_dispatch("room", AGENT) for _ in range(2))
    server.join("room")
    await app.sweep()
    assert world.dispatches("room") == [kept.id]
    world.clock.advance(0.5)
    world.clock.advance(0.1)
    # The true agent's join is told last.
    letters = sorted(world.post.take(), key=lambda letter: (removed.job or "").encode() not in letter.body)
    for letter in letters:
        assert (await app.deliver(letter)).status == 200
    for _ in range(3):
        await app.advance(2)

    assert [letter.event for letter in letters] == [
        "participant_joined",
        "participant_left",
        "participant_joined",
    ]
    assert world.dispatches("room") == [kept.id]
    assert world.livekit.count("create_dispatch") == 0
    assert [agent.answers("alice") for agent in world.agents("room")] == [True]
    assert await app.state() == "active"


@pytest.mark.usefixtures("worker")
async def test_another_service_of_the_name_is_warned_of_once(
    app: App, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its dispatch is found by a call, or in a round."""
    for room in ("one", "two"):
        await app.advance(1)
        server.create_dispatch(room, AGENT, "a row of another service")
        await app.advance(1)
        assert (await app.dispatch(room)).body["reused"] is True
    assert sum("Another service" in record.message for record in caplog.records) == 1


@pytest.mark.usefixtures("worker")
async def test_its_own_dispatches_from_before_a_lost_database_are_no_other_service(
    start_app: StartApp, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.create_dispatch("room", AGENT, "a row that was lost")
    world.clock.advance(10)
    app = await start_app()
    assert (await app.dispatch()).body["reused"] is True
    assert not any("Another service" in record.message for record in caplog.records)
