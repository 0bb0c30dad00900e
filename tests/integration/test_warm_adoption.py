"""A warm agent with people outlives the database: it is adopted, and so is its place in the pool."""

import pytest

from fakes.faults import UNAVAILABLE, FailBefore
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, CLOCKS_APART, App, World
from integration.warm import ends, holding_rooms, policy, rounds, start, states, waiting


@pytest.fixture
async def identity(start_app: StartApp, worker: FakeWorker, world: World, server: FakeServer) -> str:
    """Of a warm agent that is with a person, and that the database does not know any more."""
    assert worker.takes_jobs
    app = await start(start_app, agents=policy(warm=1))
    await rounds(app, 2)
    server.join("room")
    assert (await app.dispatch()).body["source"] == "warm"
    await app.settle()
    await app.stop()
    world.database.empty()
    (agent,) = world.agents("room")
    return agent.identity


async def restart(start_app: StartApp) -> App:
    app = await start_app(agents=policy(warm=1))
    await app.service.warm_pool.close()
    return app


def held(world: World) -> list[str]:
    """The holding rooms whose agent is elsewhere."""
    return [room.name for room in holding_rooms(world) if not any(agent.waits for agent in room.agents)]


@CLOCKS_APART
@pytest.mark.parametrize("asked_first", [False, True])
async def test_it_stays_with_its_person_and_ends_like_any_other(
    start_app: StartApp,
    world: World,
    identity: str,
    asked_first: bool,  # noqa: FBT001
) -> None:
    app = await restart(start_app)
    if asked_first:
        answer = await app.dispatch()
        assert (answer.body["source"], answer.body["state"]) == ("reused", "active")
    for _ in range(3):
        await app.advance(60)
        await app.sweep()
        await rounds(app, 2)

    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert await app.state() == "active"
    (room,) = held(world)
    (row,) = [row for row in world.rows("warm_agents") if row["state"] == "claimed"]
    assert (f"agent-warm.{row['id']}", row["agent_identity"]) == (room, identity)
    assert (states(world)["claimed"], len(waiting(world))) == (1, 1)

    await app.end()
    await rounds(app, 6)
    assert not world.agents("room")
    assert not held(world)
    assert ends(world)["used"] == 1


async def test_a_crash_before_the_pool_knows_it(start_app: StartApp, world: World, identity: str) -> None:
    app = await restart(start_app)
    await app.sweep()
    world.database.execute("DELETE FROM warm_agents")
    for _ in range(2):
        await app.advance(60)
        await app.sweep()

    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert states(world)["claimed"] == 1


async def test_while_its_holding_room_cannot_be_read_it_stays(
    start_app: StartApp, world: World, identity: str
) -> None:
    (room,) = held(world)
    world.livekit.faults.script("list_dispatches", *[FailBefore(UNAVAILABLE)] * 3)
    app = await restart(start_app)
    await app.sweep()
    await app.sweep()
    assert room in held(world)
    await app.sweep()
    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert await app.state() == "active"


async def test_beside_a_newer_agent_it_goes_and_its_holding_room_too(
    start_app: StartApp, world: World, server: FakeServer, identity: str
) -> None:
    server.create_dispatch("room", AGENT, None)
    world.clock.advance(10)
    app = await restart(start_app)
    await app.sweep()
    await rounds(app, 2)

    (agent,) = world.agents("room")
    assert agent.identity != identity
    assert not held(world)
    assert await app.state() == "active"


async def test_the_room_of_a_claimed_agent_that_is_with_nobody_goes(
    start_app: StartApp, world: World, server: FakeServer, identity: str
) -> None:
    """Its person's room was closed while no service ran, and its process did not notice."""
    server.delete_room("room")
    app = await restart(start_app)
    for _ in range(3):
        await app.advance(60)
        await app.sweep()
    assert not held(world)
    assert identity
