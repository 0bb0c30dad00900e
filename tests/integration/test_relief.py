"""Workers that are emptied: another agent comes first, takes over, and then the old one leaves."""

import asyncio
from typing import Any

import pytest

from app.control import agent_readiness
from app.control.relief import Relief
from app.errors import ServiceError
from fakes.faults import REFUSED, UNAVAILABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeAgent, FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, BOUND_S, ON_BOTH, App, World


@pytest.fixture
def worker(server: FakeServer) -> FakeWorker:
    return server.start_worker(AGENT, remembers=True)


async def talk(app: App, server: FakeServer) -> FakeAgent:
    """Alice is in with her agent, which answers."""
    assert (await app.dispatch()).status == 200
    server.join("room")
    await app.advance(6)
    assert await app.state() == "active"
    [agent] = server.rooms["room"].agents
    return agent


async def relieve(app: App, *, deployment: str | None = "") -> Relief:
    [row] = [row for row in app.world.rows("dispatches") if row["state"] in ("active", "idle")]
    relief = await app.service.reliever.relieve(row["id"], deployment)
    await app.settle()
    return relief


def answering(world: World) -> list[str]:
    return [agent.identity for agent in world.agents("room") if agent.answers("alice")]


async def watch(app: App, seconds: float) -> list[int]:
    """How many agents answer, from now on, in steps of 50 ms."""
    seen = []
    for _ in range(round(seconds / 0.05)):
        await app.advance(0.05)
        seen.append(len(answering(app.world)))
    return seen


@ON_BOTH
async def test_exactly_one_agent_answers_in_every_moment_of_a_relief(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    old = await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True)

    assert await relieve(app) is Relief.UNDER_WAY
    seen = await watch(app, 3)

    assert set(seen) == {1}
    assert answering(world) != [old.identity]
    assert len(world.agents("room")) == len(world.dispatches("room")) == 1
    rows = world.rows("dispatches")
    assert sorted((row["state"], row["end_reason"]) for row in rows) == [
        ("active", None),
        ("ended", "drained"),
    ]


async def test_a_new_agent_that_loads_for_long_is_waited_for(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True, joins_after_s=12, starts_after_s=10)

    assert await relieve(app) is Relief.UNDER_WAY
    for _ in range(24):
        await app.pass_time(1)
        assert len(answering(world)) == 1
    assert len(world.agents("room")) == 1


async def test_where_no_worker_takes_over_the_agent_goes_on(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    old = await talk(app, server)
    worker.draining = True

    assert await relieve(app) is Relief.UNDER_WAY
    await app.pass_time(7)

    assert answering(world) == [old.identity]
    assert await app.state() == "active"
    await app.pass_time(30)
    assert answering(world) == [old.identity]
    assert len(world.dispatches("room")) == 1


@pytest.mark.parametrize("fault", [UNAVAILABLE, REFUSED])
async def test_where_livekit_creates_no_dispatch_the_agent_goes_on(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer, fault: ServiceError
) -> None:
    server.start_worker(AGENT, remembers=True)
    old = await talk(app, server)
    livekit.faults.always("create_dispatch", FailBefore(fault))
    await relieve(app)
    await app.pass_time(1)
    assert answering(world) == [old.identity]
    livekit.faults.mend()
    await app.pass_time(30)

    assert len(answering(world)) == len(world.agents("room")) == 1


async def test_an_idle_agent_leaves_and_one_comes_with_the_next_person(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await talk(app, server)
    server.leave("room")
    await app.settle()
    worker.draining = True
    server.start_worker(AGENT, remembers=True)

    assert await relieve(app, deployment=None) is Relief.ENDED
    await app.advance(1)
    assert world.agents("room") == []

    server.join("room")
    await app.settle()
    await app.advance(1)
    assert len(answering(world)) == 1


@pytest.mark.usefixtures("worker")
async def test_without_another_worker_a_conversation_is_left_alone(
    app: App, world: World, server: FakeServer
) -> None:
    old = await talk(app, server)
    assert await relieve(app, deployment=None) is Relief.NO_WORKER
    assert answering(world) == [old.identity]


async def test_a_plain_agent_is_left_alone(app: App, world: World, server: FakeServer) -> None:
    """It could not hand over: both would answer, or none."""
    server.start_worker(AGENT, helper=False, remembers=True)
    old = await talk(app, server)
    assert await relieve(app) is Relief.NO_ANSWER
    assert answering(world) == [old.identity]


async def test_an_older_livekit_tells_no_agent_whom_it_relieves(
    app: App, world: World, server: FakeServer
) -> None:
    server.keeps_attributes = False
    server.start_worker(AGENT, remembers=True)
    old = await talk(app, server)
    assert await relieve(app) is Relief.OLD_LIVEKIT
    assert answering(world) == [old.identity]


async def test_a_delete_in_the_middle_ends_both(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True, joins_after_s=5)
    await relieve(app)
    await app.advance(1)

    assert (await app.end()).status == 200
    await app.pass_time(10)

    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_a_restart_of_the_service_in_the_middle_changes_nothing(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start_app()
    old = await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True, joins_after_s=20)
    await relieve(app)
    await app.stop()
    world.clock.advance(5)

    app = await start_app()
    for _ in range(12):
        await app.pass_time(2)
        assert len(answering(world)) == 1

    assert answering(world) != [old.identity]
    assert len(world.agents("room")) == 1


async def test_the_agent_before_that_dies_in_the_middle_is_not_waited_for(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True, joins_after_s=3)
    await relieve(app)
    server.kill(worker)
    await app.pass_time(4)

    assert len(answering(world)) == 1
    await app.pass_time(30)
    assert len(world.agents("room")) == 1


async def ready_status(app: App) -> dict[str, Any]:
    """The status as soon as it is ready: when an agent leaves, the next one is asked whether it answers."""
    async with asyncio.timeout(BOUND_S):
        while not (status := await app.status())["ready"]:
            assert status["hasAgent"]
    return status


async def test_callers_see_an_active_agent_all_the_time(
    app: App, server: FakeServer, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await talk(app, server)
    await ready_status(app)
    # The next agent is asked when it joins, which is too early, and by no clock after that.
    monkeypatch.setattr(agent_readiness, "_WAITS_S", (2 * BOUND_S,))
    worker.draining = True
    server.start_worker(AGENT, remembers=True, joins_after_s=3)
    before = (await app.status())["dispatchId"]
    await relieve(app)

    seen = []
    for _ in range(50):
        await app.advance(0.1)
        status = await ready_status(app)
        seen.append((status["state"], status["hasAgent"], status["participantCount"]))
        again = await app.dispatch()
        assert (again.status, again.body["reused"]) == (200, True)

    assert set(seen) == {("active", True, 1)}
    assert (await app.status())["dispatchId"] != before


async def test_a_conversation_that_would_begin_again_is_left_alone(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT)
    old = await talk(app, server)
    assert await relieve(app) is Relief.NO_MEMORY
    assert answering(world) == [old.identity]


@pytest.mark.usefixtures("worker")
async def test_an_agent_is_not_taken_from_somebody_whose_webhook_is_late(
    app: App, world: World, server: FakeServer
) -> None:
    old = await talk(app, server)
    server.leave("room")
    await app.settle()
    world.post.lossy = True
    server.join("room")

    assert await relieve(app, deployment=None) is Relief.NO_WORKER
    assert answering(world) == [old.identity]


async def test_the_old_dispatch_is_deleted_as_soon_as_the_new_agent_answers(
    app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """Its agent may be frozen: the service does not wait until it has left."""
    old = await talk(app, server)
    worker.draining = True
    server.start_worker(AGENT, remembers=True)
    await relieve(app)
    await app.advance(0.45)
    server.freeze(worker)
    await app.advance(0.15)

    async with asyncio.timeout(BOUND_S):
        # How often an agent is asked whether it answers, real time tells.
        while len(world.dispatches("room")) > 1:
            await asyncio.sleep(0.01)
            await app.settle()

    assert [agent.identity for agent in world.agents("room")] != [old.identity]
    assert len(answering(world)) == len(world.agents("room")) == 1
