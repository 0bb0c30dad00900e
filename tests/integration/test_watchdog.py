"""Agents that never join, die or close their session, and lost webhooks: repaired without a call."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.control.drift import ROLLING_ROUNDS
from app.lifecycle import Restart
from fakes.faults import REFUSED, FailBefore
from fakes.rooms import FakeWorker, Process
from fakes.server import CONNECTION_TIMEOUT_S, FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, CLOCKS_APART, ON_BOTH, OTHER_AGENT, App, World

pytestmark = ON_BOTH


def answering(world: World, identity: str = "alice") -> int:
    """How many agents in the room would answer this person."""
    return sum(agent.answers(identity) for agent in world.agents("room"))


async def with_alice(app: App, server: FakeServer) -> str:
    """An agent that answers Alice; its dispatch's id."""
    dispatch_id: str = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    server.join("room")
    await app.advance(6)
    assert await app.state() == "active"
    return dispatch_id


def assert_one_agent(world: World) -> None:
    """Check that there is one agent, it answers, and LiveKit's only dispatch is that of the row."""
    (agent,) = world.agents("room")
    assert agent.answers("alice")
    live = [
        row
        for row in world.rows("dispatches")
        if row["room_name"] == "room" and row["state"] not in ("ended", "ending")
    ]
    assert [row["dispatch_id"] for row in live] == world.dispatches("room")
    assert live[0]["agent_identity"] == agent.identity


@asynccontextmanager
async def one_probe_lost(world: World, worker: FakeWorker) -> AsyncIterator[None]:
    """The agent does not answer the next probe, and does answer those after it."""
    question = world.livekit.faults.hang("probe", acted=True)
    world.livekit.server.freeze(worker)

    async def answer_the_next() -> None:
        await question.reached.wait()
        worker.process = Process.RUNNING
        question.release()

    async with asyncio.TaskGroup() as group:
        group.create_task(answer_the_next())
        yield


# No worker


async def test_without_a_worker_three_dispatches_and_then_unavailable(
    app: App, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    await app.dispatch()
    server.join("room")
    await app.settle()
    states = []
    for _ in range(3):
        await app.pass_time(15)
        states.append(await app.state())

    assert states == ["starting", "starting", "unavailable"]
    assert world.livekit.count("create_dispatch") == 3
    assert world.dispatches("room") == []
    logged = [record for record in caplog.records if "No worker provides" in record.message]
    assert [record.levelno for record in logged] == [logging.WARNING]


async def test_a_worker_that_appears_is_found_without_a_call(
    app: App, world: World, server: FakeServer
) -> None:
    await app.dispatch()
    server.join("room")
    await app.settle()
    for _ in range(5):
        await app.pass_time(15)
    assert world.agents("room") == []
    server.start_worker(AGENT)

    for _ in range(2):
        await app.pass_time(15)

    assert_one_agent(world)
    assert await app.state() == "active"


async def test_without_people_no_dispatch_is_retried(app: App, world: World) -> None:
    await app.dispatch()
    for _ in range(18):
        await app.pass_time(15)

    assert world.livekit.count("create_dispatch") <= 4
    await app.pass_time(60)
    assert await app.state() == "none"


async def test_a_call_tries_an_unavailable_agent_at_once(app: App, world: World, server: FakeServer) -> None:
    await app.dispatch()
    server.join("room")
    await app.settle()
    for _ in range(3):
        await app.pass_time(15)
    server.start_worker(AGENT)

    answer = await app.dispatch()

    assert (answer.status, answer.body["state"]) == (200, "starting")
    await app.advance(1)
    assert_one_agent(world)


@pytest.mark.usefixtures("worker")
async def test_a_person_who_joins_a_room_with_an_unavailable_agent_gets_one(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await with_alice(app, server)
    server.leave("room")
    await app.settle()
    server.kill(worker)
    await app.advance(22)
    server.start_worker(AGENT)
    server.join("room", "bob")
    await app.settle()
    await app.advance(1)

    assert answering(world, "bob") == 1


# Agents that die


@pytest.mark.parametrize("helper", [True, False])
async def test_a_killed_agent_is_replaced_when_livekit_notices(
    app: App,
    world: World,
    server: FakeServer,
    helper: bool,  # noqa: FBT001 - a column
) -> None:
    worker = server.start_worker(AGENT, helper=helper)
    old = await with_alice(app, server)
    server.kill(worker)
    server.start_worker(AGENT, helper=helper)

    await app.advance(22)
    await app.advance(1)

    assert_one_agent(world)
    ended = await app.call("GET", f"{AGENTS}/{old}")
    assert ended.body["agent"]["endReason"] == "agent_failed"


async def test_a_killed_agent_whose_leave_is_lost_is_replaced_in_the_next_round(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await with_alice(app, server)
    world.post.lossy = True
    server.kill(worker)
    server.start_worker(AGENT)
    await app.advance(22)
    world.post.lossy = False

    await app.sweep()
    await app.advance(1)

    assert_one_agent(world)


@CLOCKS_APART
async def test_a_frozen_agent_is_replaced_in_the_next_round_of_probes(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await with_alice(app, server)
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)

    await app.service.liveness.probe_all()
    await app.advance(6)

    assert_one_agent(world)


@pytest.mark.parametrize("look", ["probe", "reconcile"])
async def test_an_agent_that_misses_one_probe_and_answers_the_next_is_kept(
    app: App, world: World, server: FakeServer, worker: FakeWorker, look: str
) -> None:
    dispatch_id = await with_alice(app, server)
    world.post.lossy = True
    server.join("room", "bob")
    world.post.lossy = False
    async with one_probe_lost(world, worker):
        await (app.service.liveness.probe_all() if look == "probe" else app.service.sweeper.sweep())
    await app.advance(6)

    assert_one_agent(world)
    assert world.dispatches("room") == [dispatch_id]


async def test_a_refresh_whose_only_probe_is_lost_costs_nobody_an_agent(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    dispatch_id = await with_alice(app, server)
    server.leave("room")
    server.join("room")
    async with one_probe_lost(world, worker):
        await app.settle()
    await app.advance(6)

    assert_one_agent(world)
    assert world.dispatches("room") == [dispatch_id]


async def test_a_frozen_agent_found_by_reconcile_is_replaced_after_a_second_probe(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await with_alice(app, server)
    world.post.lossy = True
    server.join("room", "bob")
    world.post.lossy = False
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)
    asked = world.livekit.count("probe")

    await app.sweep()
    await app.advance(6)

    assert_one_agent(world)
    assert world.livekit.count("probe") >= asked + 2


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_finished_is_not_replaced(app: App, world: World, server: FakeServer) -> None:
    old = await with_alice(app, server)
    await app.advance(10)
    server.leave("room", world.agents("room")[0].identity)
    for _ in range(3):
        await app.pass_time(30)

    assert world.agents("room") == []
    assert world.dispatches("room") == []
    ended = await app.call("GET", f"{AGENTS}/{old}")
    assert ended.body["agent"]["endReason"] == "agent_left"


@pytest.mark.usefixtures("worker")
async def test_an_agent_whose_worker_was_shut_down_is_replaced(
    app: App, world: World, server: FakeServer
) -> None:
    """It leaves by itself as a finished one does, but reports the reason."""
    await with_alice(app, server)
    (agent,) = world.agents("room")
    agent.attributes["agent-lifecycle.leaving"] = "shutdown"
    agent.worker.draining = True
    server.start_worker(AGENT)
    server.leave("room", agent.identity)

    await app.settle()
    await app.advance(1)

    assert_one_agent(world)


async def test_a_crash_loop_ends_in_unavailable_and_is_logged_once(
    app: App, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers stay available. After three restarts within five minutes the next death is too many."""
    worker = server.start_worker(AGENT)
    await with_alice(app, server)
    states = []
    for _ in range(4):
        server.kill(worker)
        worker = server.start_worker(AGENT)
        await app.advance(CONNECTION_TIMEOUT_S)
        await app.advance(1)
        states.append(await app.state())

    assert states == ["active", "active", "active", "unavailable"]
    assert world.livekit.count("create_dispatch") == 4
    logged = [record for record in caplog.records if "No worker provides" in record.message]
    assert len(logged) == 1
    await app.service.alert_monitor.look()
    assert app.service.alert_monitor.active["no_worker"] == 1

    await app.pass_time(8)
    assert await app.state() == "unavailable"
    await app.pass_time(1)
    await app.advance(1)
    assert_one_agent(world)


@pytest.mark.parametrize(
    ("restart", "end", "is_replaced"),
    [
        (Restart.ALWAYS, "finishes", True),
        (Restart.ALWAYS, "dies", True),
        (Restart.ON_FAILURE, "finishes", False),
        (Restart.ON_FAILURE, "dies", True),
        (Restart.NEVER, "finishes", False),
        (Restart.NEVER, "dies", False),
    ],
)
async def test_the_restart_policy_decides_which_agents_are_replaced(
    start_app: StartApp,
    world: World,
    server: FakeServer,
    worker: FakeWorker,
    restart: Restart,
    end: str,
    is_replaced: bool,  # noqa: FBT001 - a column
) -> None:
    app = await start_app(restart=restart)
    old = await with_alice(app, server)
    if end == "dies":
        server.kill(worker)
        server.start_worker(AGENT)
        await app.advance(CONNECTION_TIMEOUT_S)
    else:
        await app.advance(10)
        server.leave("room", world.agents("room")[0].identity)
    for _ in range(3):
        await app.pass_time(20)

    assert len(world.agents("room")) == int(is_replaced)
    assert await app.state() == ("active" if is_replaced else "none")
    assert old not in world.dispatches("room")
    assert world.livekit.count("create_dispatch") == 1 + int(is_replaced)


async def test_agents_are_probed_at_each_interval_unless_it_is_0(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    def is_on() -> bool:
        return "liveness" in {task.get_name() for task in asyncio.all_tasks()}

    app = await start_app()
    assert is_on()
    await app.stop()
    app = await start_app(liveness_interval_s=0)
    assert not is_on()
    dispatch_id = await with_alice(app, server)
    server.freeze(worker)
    asked = world.livekit.count("probe")
    await app.pass_time(15)

    assert world.livekit.count("probe") == asked
    assert world.dispatches("room") == [dispatch_id]


@pytest.mark.usefixtures("worker")
async def test_rooms_with_a_short_timeout_are_logged_once(
    app: App, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("room", "another"):
        server.open_room(name, 300, 20)
        await app.dispatch(name)

    logged = [record for record in caplog.records if vars(record).get("action") == "short_room"]
    assert [vars(record)["room"] for record in logged] == ["room"]


# Agents whose session closes


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
async def test_a_person_returning_to_a_closed_session_gets_a_new_agent_without_a_call(
    app: App, world: World, server: FakeServer
) -> None:
    await with_alice(app, server)
    server.leave("room")
    await app.advance(1)
    server.join("room")
    assert answering(world) == 0

    await app.settle()
    await app.advance(6)

    assert_one_agent(world)


@pytest.mark.usefixtures("plain_worker")
async def test_a_closed_session_that_could_not_be_checked_is_replaced_in_the_next_probes(
    app: App, world: World, server: FakeServer
) -> None:
    """LiveKit was unavailable when a person came back, or the service died before the check."""
    await with_alice(app, server)
    server.leave("room")
    await app.settle()
    world.livekit.faults.script("find_room", FailBefore(REFUSED))
    server.join("room")
    await app.settle()
    assert answering(world) == 0

    await app.service.liveness.probe_all()
    await app.settle()
    await app.advance(6)

    assert_one_agent(world)


@CLOCKS_APART
@pytest.mark.usefixtures("plain_worker")
async def test_a_closed_session_whose_webhooks_were_lost_is_replaced_in_the_next_round(
    app: App, world: World, server: FakeServer
) -> None:
    await with_alice(app, server)
    world.post.lossy = True
    server.leave("room")
    server.join("room")
    world.post.lossy = False

    await app.sweep()
    await app.advance(6)

    assert_one_agent(world)


@pytest.mark.usefixtures("worker")
async def test_a_session_that_closes_with_people_is_replaced_in_the_next_probes(
    app: App, world: World, server: FakeServer
) -> None:
    await with_alice(app, server)
    world.agents("room")[0].session_open = False

    await app.service.liveness.probe_all()
    await app.advance(6)

    assert_one_agent(world)


# Changes by others


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_of_duplicates_exactly_one_stays_at_every_moment(
    app: App, world: World, server: FakeServer
) -> None:
    ours = await with_alice(app, server)
    for _ in range(3):
        server.create_dispatch("room", AGENT)
    for _ in range(12):
        await app.advance(0.5)
        assert answering(world) >= 1
    await app.sweep()
    await app.advance(6)

    assert_one_agent(world)
    assert world.dispatches("room") == [ours]


@pytest.mark.usefixtures("worker")
async def test_a_foreign_dispatch_without_an_agent_is_removed_within_ten_rounds(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """Nothing points to it: the participants of the room are as expected."""
    ours = await with_alice(app, server)
    worker.draining = True
    server.create_dispatch("room", AGENT)
    await app.advance(10)
    rounds = 0
    while world.dispatches("room") != [ours]:
        await app.sweep()
        rounds += 1
        assert rounds <= ROLLING_ROUNDS

    assert_one_agent(world)


@CLOCKS_APART
async def test_a_duplicate_is_removed_beside_a_dispatch_without_a_worker(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """Any agent may belong to that dispatch, but only until LiveKit would show its job."""
    ours = await with_alice(app, server)
    world.post.lossy = True
    worker.draining = True
    server.create_dispatch("room", AGENT)
    worker.draining = False
    server.create_dispatch("room", AGENT)
    await app.advance(8)

    server.join("room", "bob")
    world.post.lossy = False
    await app.sweep()
    await app.advance(6)

    assert_one_agent(world)
    assert world.dispatches("room") == [ours]


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_another_tool_dispatches_into_a_new_room_is_adopted_without_its_join(
    app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    await app.settle()
    world.post.lossy = True
    dispatch = server.create_dispatch("room", AGENT)
    await app.advance(6)
    world.post.lossy = False

    await app.sweep()

    assert (await app.status()).get("dispatchId") == dispatch.id


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_has_just_joined_does_not_count_as_frozen(
    app: App, world: World, server: FakeServer
) -> None:
    """No probe reaches it yet."""
    dispatch_id = await with_alice(app, server)
    world.agents("room")[0].connected = False
    world.post.lossy = True
    server.join("room", "bob")
    world.post.lossy = False

    await app.sweep()

    assert world.dispatches("room") == [dispatch_id]


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_another_tool_dispatched_is_adopted(
    app: App, world: World, server: FakeServer
) -> None:
    """Its join is enough: no call and no round is needed."""
    dispatch = server.create_dispatch("room", AGENT)
    await app.advance(1)
    server.join("room")
    await app.settle()

    status = await app.status()

    assert (status["dispatchId"], status["state"]) == (dispatch.id, "active")
    assert_one_agent(world)
    server.leave("room")
    await app.settle()
    assert await app.state() == "idle"


@CLOCKS_APART
async def test_another_tools_starting_agent_is_adopted_and_not_removed(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """LiveKit lists a job long before the agent of a slow worker joins."""
    await app.dispatch("elsewhere")
    worker.joins_after_s = 8
    dispatch = server.create_dispatch("room", AGENT)
    await app.advance(1)
    await app.sweep()

    assert world.dispatches("room") == [dispatch.id]
    assert await app.state() == "starting"
    await app.advance(8)
    assert await app.state() == "idle"
    assert_one_agent(world)


@pytest.mark.usefixtures("worker")
async def test_an_adopted_agent_ends_with_its_ttl(app: App, world: World, server: FakeServer) -> None:
    server.open_room("room", 3_600, 3_600)
    server.create_dispatch("room", AGENT)
    await app.advance(1)
    await app.pass_time(301)

    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_only_agents_of_configured_names_are_managed(
    app: App, world: World, server: FakeServer
) -> None:
    for name in (AGENT, OTHER_AGENT, "somebody-elses"):
        server.start_worker(name)
        server.create_dispatch("room", name)
    await app.advance(6)
    await app.sweep()

    assert sorted(agent["agentName"] for agent in await app.listed()) == [AGENT, OTHER_AGENT]
    assert len(world.agents("room")) == 3


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_an_agent_of_an_ended_dispatch_is_removed(app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    server.create_dispatch("room", AGENT)
    await app.advance(6)
    zombie = world.agents("room")[0]
    server.kill(zombie.worker)
    server.start_worker(AGENT)
    world.livekit.server.rooms["room"].dispatches.clear()

    await app.dispatch()
    await app.advance(6)
    await app.sweep()

    assert zombie not in world.agents("room")
    assert_one_agent(world)


# Lost webhooks


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_after_a_minute_without_webhooks_presence_and_ttl_are_right_again(
    app: App, world: World, server: FakeServer
) -> None:
    await with_alice(app, server)
    world.post.lossy = True
    for name in ("bob", "carol", "dave"):
        server.join("room", name)
        await app.advance(10)
    server.leave("room", "bob")
    server.leave("room")
    world.post.lossy = False

    await app.sweep()

    status = await app.status()
    assert (status["participantCount"], status["state"], status["ttlExpiresAt"]) == (2, "active", None)

    world.post.lossy = True
    server.leave("room", "carol")
    server.leave("room", "dave")
    world.post.lossy = False
    await app.sweep()
    status = await app.status()
    assert (status["participantCount"], status["state"]) == (0, "idle")
    await app.pass_time(300)
    assert world.agents("room") == []


@pytest.mark.usefixtures("worker")
async def test_a_room_that_closed_unseen_ends_its_dispatch(
    app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await with_alice(app, server)
    world.post.lossy = True
    server.delete_room("room")
    world.post.lossy = False

    await app.sweep()

    ended = await app.call("GET", f"{AGENTS}/{dispatch_id}")
    assert (ended.body["agent"]["state"], ended.body["agent"]["endReason"]) == ("ended", "room_finished")
    assert world.livekit.server.rooms == {}


@pytest.mark.usefixtures("worker")
async def test_a_dispatch_deleted_by_others_is_replaced_while_people_wait(
    app: App, world: World, server: FakeServer
) -> None:
    old = await with_alice(app, server)
    world.post.lossy = True
    server.delete_dispatch(server.rooms["room"], old)
    await app.advance(1)
    world.post.lossy = False

    await app.sweep()
    await app.advance(1)

    assert_one_agent(world)


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_rounds_without_differences_change_nothing(app: App, world: World, server: FakeServer) -> None:
    await with_alice(app, server)
    await app.sweep()
    before = world.tables()
    calls = len(world.livekit.calls)
    for _ in range(3):
        await app.pass_time(60)

    assert world.tables() == before
    assert len(world.livekit.calls) - calls < 40
    assert {call.method for call in world.livekit.calls[calls:]} <= {
        "list_rooms",
        "find_room",
        "list_dispatches",
        "list_participants",
        "probe",
    }


@CLOCKS_APART
@pytest.mark.usefixtures("worker")
async def test_after_a_lost_database_agents_in_livekit_are_adopted(
    app: App, start_app: StartApp, world: World, server: FakeServer
) -> None:
    old = await with_alice(app, server)
    await app.stop()
    world.database.empty()

    app = await start_app()

    assert [agent["dispatchId"] for agent in await app.listed()] == [old]
    assert_one_agent(world)
    assert await app.state() == "active"
