"""A call takes a warm agent if one waits; whatever goes wrong with it, the call gets an ordinary one."""

import asyncio
import json
from typing import Any

import pytest

from app.errors import ServiceError
from app.lifecycle import Restart, Share
from app.lifecycle.mode import Mode
from fakes.faults import REFUSED, TIMEOUT, UNAVAILABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, ON_BOTH, ON_POSTGRES, OTHER_AGENT, App, World
from integration.replicas import LEASE_S, Death, StartReplica
from integration.reports import ReportingWorker, look
from integration.warm import ends, holding_rooms, policy, rounds, start, states, waiting

pytestmark = pytest.mark.usefixtures("warm_pool_by_hand")


@pytest.fixture
async def warm_app(start_app: StartApp, worker: FakeWorker) -> App:
    """Two wait."""
    assert worker.takes_jobs
    app = await start(start_app)
    await rounds(app, 2)
    return app


def one_agent(world: World, room: str = "room") -> str:
    (agent,) = world.agents(room)
    return agent.identity


@ON_BOTH
async def test_a_call_gets_a_warm_agent_that_is_in_at_once(
    warm_app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    server.join("room")
    await warm_app.settle()
    livekit.calls.clear()

    answer = await warm_app.dispatch(metadata={"name": "Ada"}, timezone="Europe/Berlin")

    assert (answer.status, answer.body["source"], answer.body["state"]) == (200, "warm", "active")
    assert livekit.count("create_dispatch") == 0
    (agent,) = world.agents("room")
    assert agent.told
    assert json.loads(agent.told["metadata"]) == {"name": "Ada", "timezone": "Europe/Berlin"}
    assert agent.attributes["agent-lifecycle.dispatch"] == answer.body["dispatchId"]
    await warm_app.settle()
    status = await warm_app.status()
    assert (status["state"], status["ready"], status["dispatchId"]) == (
        "active",
        True,
        answer.body["dispatchId"],
    )
    assert states(world) == {"claimed": 1, "waiting": 1}
    again = await warm_app.dispatch()
    assert (again.body["source"], again.body["dispatchId"]) == ("reused", answer.body["dispatchId"])
    await rounds(warm_app, 3)
    assert states(world) == {"claimed": 1, "waiting": 2}


@pytest.mark.parametrize("fails", [False, True])
async def test_everybody_in_the_room_is_told_of_it(
    warm_app: App,
    world: World,
    server: FakeServer,
    fails: bool,  # noqa: FBT001
) -> None:
    """Without that, people see it a moment later."""
    if fails:
        world.livekit.faults.script("announce", FailBefore(UNAVAILABLE))
    server.join("room")

    answer = await warm_app.dispatch()

    assert (answer.status, answer.body["source"], answer.body["state"]) == (200, "warm", "active")
    (call,) = [call for call in world.livekit.calls if call.method == "announce"]
    assert call.arguments == ("room", one_agent(world))


async def test_the_next_one_is_made_once_it_has_had_the_time_to_answer(
    warm_app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    await warm_app.dispatch()
    await warm_app.settle()

    await rounds(warm_app, 1, every_s=0.9)
    await rounds(warm_app, 1, every_s=0.2)
    assert len(holding_rooms(world)) == 2
    await rounds(warm_app, 2)
    assert len(waiting(world)) == 2


async def test_in_an_empty_room_it_is_idle_and_its_ttl_runs(
    warm_app: App, world: World, server: FakeServer
) -> None:
    answer = await warm_app.dispatch()
    assert (answer.body["source"], answer.body["state"]) == ("warm", "idle")
    server.join("room")
    await warm_app.settle()
    assert await warm_app.state() == "active"
    server.leave("room")
    await warm_app.settle()
    identity = one_agent(world)
    await warm_app.pass_time(300)
    await rounds(warm_app, 3)

    assert world.agents("room") == []
    assert all(identity not in room.participants for room in holding_rooms(world))
    assert ends(world) == {"used": 1}
    (row,) = world.rows("dispatches")
    assert (row["state"], row["end_reason"]) == ("ended", "expired")
    assert len(waiting(world)) == len(holding_rooms(world)) == 2


async def test_an_empty_pool_is_no_error(warm_app: App, world: World) -> None:
    sources = [(await warm_app.dispatch(room)).body["source"] for room in ("a", "b", "c")]
    assert sources == ["warm", "warm", "dispatched"]
    assert states(world) == {"claimed": 2}
    text = (await warm_app.scrape())[2]
    assert 'agent_lifecycle_warm_claims_total{agent="agent",result="claimed"} 2.0' in text
    assert 'agent_lifecycle_warm_claims_total{agent="agent",result="none_waiting"} 1.0' in text


async def test_metadata_that_a_claim_cannot_carry_goes_with_an_ordinary_dispatch(
    warm_app: App, world: World
) -> None:
    answer = await warm_app.dispatch(metadata="x" * 15_000)
    assert answer.body["source"] == "dispatched"
    assert states(world) == {"waiting": 2}


async def test_a_call_takes_one_of_its_deployment_only(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, deployment="v1")
    server.start_worker(AGENT, deployment="v2")
    app = await start(start_app, agents=policy(2, deployment=(Share(deployment="v1", weight=100),)))
    await rounds(app, 2)
    app.service.policies.replace(policy(2, deployment=(Share(deployment="v2", weight=100),)))
    assert (await app.dispatch()).body["source"] == "dispatched"
    await app.advance(1)
    assert [agent.worker.deployment for agent in world.agents("room")] == ["v2"]


@pytest.mark.parametrize("mode", [Mode.REUSE, Mode.OBSERVE])
async def test_each_mode(start_app: StartApp, worker: FakeWorker, mode: Mode) -> None:
    assert worker.takes_jobs
    app = await start(start_app, mode=mode)
    await rounds(app, 2)
    source = "dispatched" if mode is Mode.OBSERVE else "warm"
    assert (await app.dispatch()).body["source"] == source


@pytest.mark.parametrize(
    "fault",
    [
        FailBefore(UNAVAILABLE),
        FailBefore(TIMEOUT),
        FailBefore(REFUSED),
    ],
)
async def test_a_claim_that_fails_falls_back_and_its_agent_does_not_come_later(
    warm_app: App, world: World, server: FakeServer, livekit: FakeLiveKit, fault: Any
) -> None:
    server.join("room")
    livekit.faults.script("claim", fault)
    answer = await warm_app.dispatch()
    assert (answer.status, answer.body["source"]) == (200, "dispatched")
    await rounds(warm_app, 3)

    assert one_agent(world) == server.rooms["room"].dispatches[answer.body["dispatchId"]].job
    assert await warm_app.state() == "active"
    assert ends(world) == {"claim_failed": 1}
    assert len(waiting(world)) == len(holding_rooms(world)) == 2


@pytest.mark.parametrize("error", [UNAVAILABLE, TIMEOUT])
async def test_one_that_came_while_its_answer_was_lost_stays(
    warm_app: App, world: World, server: FakeServer, livekit: FakeLiveKit, error: ServiceError
) -> None:
    server.join("room")
    livekit.faults.script("claim", FailAfter(error))
    answer = await warm_app.dispatch()
    assert (answer.body["source"], answer.body["state"]) == ("warm", "active")
    assert one_agent(world)


async def test_a_frozen_one_falls_back(
    warm_app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    server.freeze(worker)
    server.start_worker(AGENT)
    worker.draining = True
    server.join("room")
    answer = await warm_app.dispatch()
    assert answer.body["source"] == "dispatched"
    await warm_app.advance(1)
    assert [agent.reacts for agent in world.agents("room")] == [True]
    text = (await warm_app.scrape())[2]
    assert 'agent_lifecycle_warm_claims_total{agent="agent",result="silent"} 1.0' in text


async def test_while_its_holding_room_cannot_be_deleted_no_other_is_dispatched(
    warm_app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    """It might still come, and there would be two."""
    server.join("room")
    livekit.faults.script("claim", FailBefore(UNAVAILABLE))
    livekit.faults.script("delete_room", FailBefore(UNAVAILABLE))
    assert (await warm_app.dispatch()).status == 503
    assert livekit.count("create_dispatch") == 2
    await warm_app.pass_time(LEASE_S + 1)

    assert await warm_app.state() == "active"
    assert len(world.agents("room")) == 1
    assert len(waiting(world)) == 1


@pytest.mark.parametrize("loss", ["leaves", "dies", "freezes", "holding room", "holding agent"])
async def test_an_agent_that_is_lost_is_replaced(
    warm_app: App, world: World, server: FakeServer, worker: FakeWorker, loss: str
) -> None:
    server.join("room")
    dispatch_id = (await warm_app.dispatch()).body["dispatchId"]
    identity = one_agent(world)
    await warm_app.settle()
    (held,) = [room for room in holding_rooms(world) if identity in room.participants]
    server.start_worker(AGENT)
    match loss:
        case "leaves":
            server.leave("room", identity, "CONNECTION_TIMEOUT")
        case "dies":
            server.kill(worker)
        case "freezes":
            server.freeze(worker)
            worker.draining = True
        case "holding room":
            server.delete_room(held.name)
        case "holding agent":
            server.leave(held.name, identity)
    await warm_app.advance(1)
    if loss in ("dies", "freezes"):
        worker.draining = True
        await warm_app.service.liveness.probe_all()
    await rounds(warm_app, 30)
    await warm_app.sweep()

    assert await warm_app.state() == "active"
    assert one_agent(world) != identity
    assert (await warm_app.status())["dispatchId"] != dispatch_id
    assert held not in holding_rooms(world)


async def test_a_restart_takes_a_warm_one_too(warm_app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    await warm_app.dispatch()
    await warm_app.settle()
    server.leave("room", one_agent(world), "CONNECTION_TIMEOUT")
    await warm_app.settle()
    assert states(world)["claimed"] == 2
    assert await warm_app.state() == "active"


@pytest.mark.parametrize("restart", Restart)
async def test_the_longest_session_ends_it(
    start_app: StartApp, world: World, server: FakeServer, restart: Restart
) -> None:
    server.start_worker(AGENT)
    app = await start(start_app, agents=policy(1, max_session_s=600, warn_before_s=30, restart=restart))
    await rounds(app, 2)
    server.join("room")
    await app.dispatch()
    await app.settle()
    (agent,) = world.agents("room")
    await app.pass_time(570)
    assert len(agent.warnings) == 1
    await app.pass_time(30)
    await rounds(app, 3)
    assert world.agents("room") == []
    assert len(holding_rooms(world)) == len(waiting(world)) == 1


@pytest.mark.parametrize("by", ["end", "hold", "room"])
async def test_its_end_is_the_end_of_its_holding_room(
    warm_app: App, world: World, server: FakeServer, by: str
) -> None:
    server.join("room")
    dispatch_id = (await warm_app.dispatch()).body["dispatchId"]
    await warm_app.settle()
    identity = one_agent(world)
    match by:
        case "end":
            assert (await warm_app.end()).status == 200
        case "hold":
            assert (await warm_app.call("POST", f"{AGENTS}/{dispatch_id}/hold")).status == 200
        case "room":
            server.delete_room("room")
    await warm_app.settle()
    await rounds(warm_app, 3)

    assert world.agents("room") == []
    assert not any(identity in room.participants for room in holding_rooms(world))
    assert ends(world) == {"used": 1}
    if by == "hold":
        answer = await warm_app.dispatch(resume=True)
        assert answer.body["source"] == "warm"


async def test_one_whose_room_closed_while_its_process_stood_still_goes_too(
    warm_app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await warm_app.dispatch()
    await warm_app.settle()
    server.freeze(worker)
    server.delete_room("room")
    await warm_app.settle()
    await rounds(warm_app, 2)
    assert ends(world)["used"] == 1


async def test_reconcile_and_sweeps_find_nothing_to_do(
    warm_app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    answer = await warm_app.dispatch()
    await warm_app.settle()
    for _ in range(12):
        await warm_app.sweep()
        await warm_app.service.liveness.probe_all()
        await warm_app.advance(60)
    assert (await warm_app.status())["dispatchId"] == answer.body["dispatchId"]
    assert not warm_app.service.reconciler.drift
    assert len(world.agents("room")) == 1


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("method", ["ensure_room", "claim", "delete_room"])
@ON_POSTGRES
async def test_after_a_crash_at_any_call_of_a_claim_there_is_one_agent(
    start_replica: StartReplica,
    world: World,
    server: FakeServer,
    worker: FakeWorker,
    method: str,
    acted: bool,  # noqa: FBT001
) -> None:
    assert worker.takes_jobs
    first = await start_replica(agents=policy())
    await rounds(first.app, 2)
    server.join("room")
    await first.app.settle()
    if method == "delete_room":
        first.livekit.faults.script("claim", FailBefore(TIMEOUT))
    first.livekit.faults.script(method, Death(first, acted))
    await first.app.dispatch()

    second = await start_replica(agents=policy())
    await rounds(second.app, LEASE_S + 2)
    await second.app.sweep()
    await second.app.sweep()
    await rounds(second.app, 3)

    answer = await second.app.dispatch()
    assert answer.status == 200
    await second.app.advance(1)
    assert len(world.agents("room")) == 1
    assert await second.app.state() == "active"
    claimed = [room for room in holding_rooms(world) if not any(agent.waits for agent in room.agents)]
    assert len(claimed) == (1 if world.agents("room")[0].told else 0)
    assert len(waiting(world)) == 2


@ON_POSTGRES
async def test_two_replicas_claim_two_different_ones(
    start_replica: StartReplica, world: World, worker: FakeWorker
) -> None:

    assert worker.takes_jobs
    a, b = [await start_replica(agents=policy()) for _ in range(2)]
    await rounds(a.app, 2)
    answers = await asyncio.gather(a.app.dispatch("one"), b.app.dispatch("two"))
    assert [answer.body["source"] for answer in answers] == ["warm", "warm"]
    assert len({world.agents(room)[0].identity for room in ("one", "two")}) == 2


async def test_its_time_counts_once(warm_app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    await warm_app.dispatch()
    await warm_app.advance(60)
    after = (await warm_app.usage())["totals"]
    assert world.agents("room")
    # The other one still waits.
    assert (after["dispatches"], after["talkedS"], after["warmS"]) == (1, 60, 64)


async def test_one_on_a_worker_that_may_be_dead_is_not_claimed(
    warm_app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """Its silence would cost the call seconds, just when the agents of that worker are replaced."""
    reporting = ReportingWorker(world=world, worker=worker)
    for _ in range(2):
        await reporting.report(warm_app)
        await look(warm_app)
    server.start_worker(AGENT)
    server.kill(worker)
    world.clock.advance(3)
    await look(warm_app)

    answer = await warm_app.dispatch()

    assert (answer.status, answer.body["source"]) == (200, "dispatched")


async def test_a_row_of_a_name_that_is_no_longer_configured_gets_an_ordinary_agent(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start_app()
    server.join("room")
    assert (await app.dispatch()).status == 200
    await app.advance(1)
    await app.stop()
    app = await start_app(agent_names=(OTHER_AGENT,))
    server.start_worker(AGENT)

    server.kill(worker)
    await app.advance(22)
    await app.advance(1)

    assert len([agent for agent in world.agents("room") if agent.reacts]) == 1
