"""The pool of warm agents: as many wait as the policy says, through failures, restarts and changes."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from app.lifecycle import Share
from app.lifecycle.mode import Mode
from fakes.faults import TIMEOUT, UNAVAILABLE, UNREACHABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker, Process
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, BOUND_S, ON_BOTH, ON_POSTGRES, App, World
from integration.replicas import Death, StartReplica
from integration.reports import ReportingWorker, look
from integration.warm import JOIN_TIMEOUT_S, ends, holding_rooms, policy, rounds, start, states, waiting

pytestmark = pytest.mark.usefixtures("warm_pool_by_hand")


def pools(app: App) -> list[tuple[int, Mapping[str, int]]]:
    """How many are to wait and how many there are by state, as the metrics and the dashboard say it."""
    return [(one.wanted, one.by_state) for one in app.service.warm_pool.counts()]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_as_many_wait_as_the_policy_says(start_app: StartApp, world: World) -> None:
    app = await start(start_app)
    await rounds(app)
    assert states(world) == {"starting": 2}
    await rounds(app)

    assert states(world) == {"waiting": 2}
    assert len(waiting(world)) == len(holding_rooms(world)) == 2
    for room in holding_rooms(world):
        (dispatch,) = room.dispatches.values()
        assert f"agent-warm.{dispatch.row_id}" == room.name
        assert room.empty_timeout_s == 365 * 86_400
    await rounds(app, 30)
    assert states(world) == {"waiting": 2}
    assert pools(app) == [(2, {"waiting": 2})]


@pytest.mark.usefixtures("worker")
async def test_without_a_pool_nothing_is_made_or_asked(app: App, world: World, livekit: FakeLiveKit) -> None:
    await app.service.warm_pool.run()
    livekit.calls.clear()
    world.database_faults.down = True
    await app.service.warm_pool.run()
    world.database_faults.down = False
    assert (holding_rooms(world), livekit.calls) == ([], [])


@pytest.mark.usefixtures("worker")
async def test_nobody_hears_of_holding_rooms(start_app: StartApp, world: World, livekit: FakeLiveKit) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    for _ in range(12):
        await app.sweep()
        await app.advance(60)

    assert await app.listed() == []
    assert (world.rows("dispatches"), world.rows("rooms"), world.rows("participants")) == ([], [], [])
    assert len(waiting(world)) == 2
    assert app.service.reconciler.drift == {}
    room = holding_rooms(world)[0].name
    assert (await app.dispatch(room)).status == 422
    assert (await app.call("GET", AGENTS, params={"roomName": room})).status == 422
    livekit.calls.clear()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("mode", [Mode.REUSE, Mode.ENFORCE])
async def test_they_end_when_the_policy_wants_none(start_app: StartApp, world: World, mode: Mode) -> None:
    app = await start(start_app, mode=mode)
    await rounds(app, 2)
    app.service.policies.replace(policy(0))
    await rounds(app)
    assert (holding_rooms(world), ends(world)) == ([], {"unwanted": 2})
    await rounds(app, 2)
    assert pools(app) == []


@pytest.mark.usefixtures("worker")
async def test_a_service_that_only_watches_ends_them(start_app: StartApp, world: World) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    await app.stop()
    app = await start(start_app, mode=Mode.OBSERVE)
    await rounds(app, 2)
    assert (holding_rooms(world), ends(world)) == ([], {"unwanted": 2})


@pytest.mark.usefixtures("worker")
async def test_a_restart_keeps_them(start_app: StartApp, world: World) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    before = {room.sid for room in holding_rooms(world)}
    await app.stop()
    app = await start(start_app)
    await rounds(app, 3)
    assert {room.sid for room in holding_rooms(world)} == before
    assert states(world) == {"waiting": 2}


async def test_without_a_worker_it_tries_again_less_and_less_often(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app)
    await rounds(app, 60)
    assert holding_rooms(world) == [] or len(holding_rooms(world)) <= 2
    assert set(ends(world)) == {"untaken"}
    assert sum(ends(world).values()) <= 6

    server.start_worker(AGENT)
    await rounds(app, 64)
    assert states(world)["waiting"] == 2


@pytest.mark.parametrize("helper", [True, False])
async def test_agents_that_cannot_wait_are_ended_and_told_of_once(
    start_app: StartApp,
    world: World,
    server: FakeServer,
    helper: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = server.start_worker(AGENT, helper=helper)
    worker.can_wait = False
    app = await start(start_app)
    await rounds(app, 5 * JOIN_TIMEOUT_S)

    assert (ends(world), holding_rooms(world)) == ({"never_waited": 2}, [])
    told = [record for record in caplog.records if "does not wait" in record.getMessage()]
    assert len(told) == 1
    worker.can_wait = worker.helper = True
    await rounds(app, 3, every_s=300)
    await rounds(app, 3)
    assert states(world)["waiting"] == 2


async def test_an_agent_that_loads_for_long_is_waited_for(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, joins_after_s=3 * JOIN_TIMEOUT_S)
    app = await start(start_app)
    await rounds(app, 3 * JOIN_TIMEOUT_S + 2)
    assert states(world) == {"waiting": 2}


async def test_a_job_whose_agent_never_comes_is_given_up(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, joins_after_s=1_000)
    app = await start(start_app)
    await rounds(app, 4 * JOIN_TIMEOUT_S + 1)
    assert ends(world) == {"never_came": 2}


@pytest.mark.parametrize("loss", ["kill", "freeze", "leave", "room"])
async def test_one_that_is_lost_is_replaced(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker, loss: str
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    room = holding_rooms(world)[0]
    server.start_worker(AGENT)
    match loss:
        case "kill":
            server.kill(worker)
        case "freeze":
            server.freeze(worker)
        case "leave":
            server.leave(room.name, room.agents[0].identity)
        case "room":
            server.delete_room(room.name)
    await rounds(app, 40 if loss == "freeze" else 14)

    assert states(world)["waiting"] == 2
    assert room not in holding_rooms(world)
    assert ends(world)["lost"] == (2 if loss in ("kill", "freeze") else 1)
    assert all(agent.reacts for agent in waiting(world))


@pytest.mark.usefixtures("worker")
async def test_a_single_question_that_is_lost_costs_no_agent(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    await app.advance(10)
    server.freeze(worker)
    await rounds(app)
    worker.process = Process.RUNNING
    await rounds(app, 30)
    assert states(world) == {"waiting": 2}


@pytest.mark.usefixtures("worker")
async def test_a_clock_that_was_set_back_stops_the_pool_for_no_longer_than_a_load(
    start_app: StartApp, world: World
) -> None:
    app = await start(start_app, agents=policy(2, warm_refill_per_minute=2))
    await rounds(app, 2)
    world.database.execute("UPDATE warm_agents SET created_at = created_at + 3600000000")
    for room in ("one", "two"):
        assert (await app.dispatch(room)).body["source"] == "warm"
    await rounds(app, 3)
    assert states(world) == {"claimed": 2, "waiting": 2}


@pytest.mark.usefixtures("worker")
async def test_aged_ones_are_replaced_one_after_the_other(start_app: StartApp, world: World) -> None:
    app = await start(start_app, agents=policy(warm_max_age_s=600))
    await rounds(app, 2)
    before = {room.name for room in holding_rooms(world)}
    await app.advance(600)
    for _ in range(8):
        await rounds(app)
        assert states(world)["waiting"] >= 1
        assert len(holding_rooms(world)) <= 2
    assert ends(world) == {"aged": 2}
    assert not before & {room.name for room in holding_rooms(world)}


@pytest.mark.usefixtures("worker")
async def test_an_aged_one_stays_until_the_next_waits_if_the_pool_may_grow(
    start_app: StartApp, world: World
) -> None:
    app = await start(start_app, agents=policy(warm_max=3, warm_max_age_s=600))
    await rounds(app, 2)
    await app.advance(600)
    for _ in range(8):
        await rounds(app)
        assert states(world)["waiting"] >= 2
    assert ends(world) == {"aged": 2}


async def test_each_deployment_has_its_part(start_app: StartApp, world: World, server: FakeServer) -> None:
    for deployment in ("v1", "v2"):
        server.start_worker(AGENT, deployment=deployment)
    shares = (Share(deployment="v2", weight=50), Share(deployment="v1", weight=50))
    app = await start(start_app, agents=policy(4, deployment=shares))
    await rounds(app, 2)
    assert Counter(agent.worker.deployment for agent in waiting(world)) == {"v1": 2, "v2": 2}

    app.service.policies.replace(policy(4, deployment=(Share(deployment="v2", weight=100),)))
    await rounds(app, 3)
    assert Counter(agent.worker.deployment for agent in waiting(world)) == {"v2": 4}


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_with_agents_that_have_rooms_they_stay_within_the_limit(start_app: StartApp) -> None:
    app = await start(start_app, agents=policy(2, max_agents=3))
    await rounds(app, 2)
    app.service.policies.replace(policy(0, max_agents=3))
    await rounds(app)
    for room in ("one", "two"):
        await app.dispatch(room)
    app.service.policies.replace(policy(2, max_agents=3))
    await rounds(app, 3)
    assert pools(app) == [(2, {"waiting": 1})]


@pytest.mark.usefixtures("worker")
async def test_no_more_are_made_in_a_minute_than_the_policy_says(start_app: StartApp, world: World) -> None:
    app = await start(start_app, agents=policy(5, warm_refill_per_minute=3))
    await rounds(app, 30)
    assert states(world) == {"waiting": 3}
    await rounds(app, 33)
    assert states(world) == {"waiting": 5}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("method", ["ensure_room", "create_dispatch"])
@pytest.mark.parametrize("fault", [FailBefore(UNREACHABLE), FailAfter(UNAVAILABLE), FailAfter(TIMEOUT)])
async def test_a_creation_that_fails_leaves_nothing(
    start_app: StartApp, world: World, livekit: FakeLiveKit, method: str, fault: Any
) -> None:
    app = await start(start_app, agents=policy(1))
    livekit.faults.script(method, fault)
    await rounds(app, 9)
    assert ends(world) == {"not_created": 1}
    assert len(holding_rooms(world)) == 1
    assert states(world)["waiting"] == 1


@pytest.mark.usefixtures("worker")
async def test_a_holding_room_that_cannot_be_deleted_is_deleted_later(
    start_app: StartApp, world: World, livekit: FakeLiveKit
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    app.service.policies.replace(policy(0))
    livekit.faults.always("delete_room", FailBefore(UNAVAILABLE))
    await rounds(app, 3)
    assert states(world) == {"ending": 2}
    livekit.faults.mend()
    await rounds(app)
    assert (holding_rooms(world), states(world)) == ([], {"ended": 2})


@ON_POSTGRES
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("method", ["ensure_room", "create_dispatch", "probe"])
@pytest.mark.parametrize("acted", [False, True])
async def test_a_crash_at_any_call_of_the_keeper_leaves_no_room_for_ever(
    start_replica: StartReplica,
    world: World,
    method: str,
    acted: bool,  # noqa: FBT001
) -> None:

    first = await start_replica(agents=policy(1))
    first.livekit.faults.script(method, Death(first, acted))
    for _ in range(2):
        try:
            await first.app.service.warm_pool.run()
        except Exception:  # noqa: BLE001 - its database is gone
            break
        world.clock.advance(1)
    second = await start_replica(agents=policy(1))
    for _ in range(30):
        await second.app.service.warm_pool.run()
        world.clock.advance(1)

    assert len(waiting(world)) == len(holding_rooms(world)) == 1
    assert states(world)["waiting"] == 1


@ON_POSTGRES
@pytest.mark.usefixtures("worker")
async def test_two_replicas_keep_one_pool(start_replica: StartReplica, world: World) -> None:
    replicas = [await start_replica(agents=policy()) for _ in range(2)]
    for _ in range(6):
        for replica in replicas:
            await replica.app.service.warm_pool.run()
        world.clock.advance(1)
    assert len(holding_rooms(world)) == 2


@pytest.mark.usefixtures("worker")
async def test_holding_rooms_that_nobody_knows_are_deleted_after_a_minute(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    server.create_dispatch("agent-warm.lost", AGENT, "lost")
    server.create_dispatch("agent-warm.of-another-service", "an-agent-of-another-service")
    ended = holding_rooms(world)[0].name
    server.delete_room(ended)
    await rounds(app, 12)
    # A late agent connects, and LiveKit makes the room for it.
    server.open_room(ended)

    await app.sweep()
    names = {room.name for room in holding_rooms(world)}
    assert ended not in names
    assert "agent-warm.lost" in names
    await app.pass_time(60)
    names = {room.name for room in holding_rooms(world)}
    assert "agent-warm.lost" not in names
    assert "agent-warm.of-another-service" in names
    assert len(waiting(world)) == 2


async def test_the_time_of_those_that_wait_is_usage(
    start_app: StartApp, worker: FakeWorker, world: World
) -> None:
    assert worker.takes_jobs
    app = await start(start_app)
    await rounds(app, 10)
    app.service.policies.replace(policy(0))
    await rounds(app)
    assert (await app.usage())["totals"]["warmS"] == 20
    assert world.rows("dispatches") == []
    text = (await app.scrape())[2]
    assert 'agent_lifecycle_agent_seconds_total{agent="agent",kind="warm"} 20.0' in text


async def test_those_on_a_drained_worker_are_replaced_elsewhere(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    old = ReportingWorker(world=world, worker=worker)
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT))
    for _ in range(2):
        await old.report(app)
        await other.report(app)
        await look(app)
    assert {agent.worker for agent in waiting(world)} == {worker}

    await app.call("POST", f"/api/livekit/workers/{old.id}/drain")
    await old.report(app)
    await look(app)
    await rounds(app, 3)

    assert [agent.worker for agent in waiting(world)] == [other.worker] * 2
    assert ends(world) == {"unwanted": 2}


async def test_a_warm_agent_that_has_come_is_relieved_by_another_workers(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app)
    old = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True))
    await rounds(app, 2)
    server.join("room")
    assert (await app.dispatch()).body["source"] == "warm"
    await app.advance(1)
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True))
    for _ in range(2):
        await old.report(app)
        await other.report(app)
        await look(app)

    await app.call("POST", f"/api/livekit/workers/{old.id}/drain")
    for _ in range(8):
        await old.report(app)
        await other.report(app)
        await look(app)
        await rounds(app, every_s=0.5)
        assert len([agent for agent in world.agents("room") if agent.answers("alice")]) == 1

    async with asyncio.timeout(BOUND_S):
        # How often an agent is asked whether it is ready, real time tells.
        while len(holding_rooms(world)) > 2:
            await rounds(app)
            await asyncio.sleep(0.01)
    assert [agent.worker for agent in world.agents("room")] == [other.worker]
    assert [agent.worker for agent in waiting(world)] == [other.worker] * 2


async def test_a_call_for_a_full_fleet_gets_an_agent_that_waits(
    start_app: StartApp, world: World, worker: FakeWorker
) -> None:
    app = await start(start_app)
    await rounds(app, 2)
    full = ReportingWorker(world=world, worker=worker, slots=2)
    for _ in range(2):
        await full.report(app)
        await look(app)

    answers = [await app.dispatch(f"room-{number}") for number in range(3)]

    assert [(one.status, one.body.get("source")) for one in answers] == [
        (200, "warm"),
        (200, "warm"),
        (429, None),
    ]
