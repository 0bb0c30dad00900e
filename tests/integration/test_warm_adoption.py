"""A warm agent with people outlives the database: it is adopted, and so is its place in the pool."""

import pytest

from app.livekit.interface import ListedDispatch
from fakes.faults import UNAVAILABLE, FailBefore
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, CLOCKS_APART, App, World
from integration.warm import ends, holding_rooms, policy, rounds, start, states, waiting

pytestmark = pytest.mark.usefixtures("warm_pool_by_hand")


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


async def restart(start_app: StartApp, *, ready: bool = True) -> App:
    return await start_app(agents=policy(warm=1), ready=ready)


def held(world: World) -> list[str]:
    """The holding rooms whose agent is elsewhere."""
    return [room.name for room in holding_rooms(world) if not any(agent.waits for agent in room.agents)]


async def a_minute_passes(app: App) -> None:
    """And what the service does meanwhile."""
    await app.advance(60)
    await app.sweep()
    await rounds(app, 2)


@CLOCKS_APART
@pytest.mark.parametrize("asked_first", [False, True])
async def test_it_stays_with_its_person_and_ends_like_any_other(
    start_app: StartApp,
    world: World,
    identity: str,
    asked_first: bool,  # noqa: FBT001
) -> None:
    if asked_first:
        # The first comparison fails.
        world.livekit.faults.script("list_rooms", FailBefore(UNAVAILABLE))
    app = await restart(start_app, ready=not asked_first)
    if asked_first:
        answer = await app.dispatch()
        assert (answer.body["source"], answer.body["state"]) == ("reused", "active")
    for _ in range(3):
        await a_minute_passes(app)

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
    world.database.execute("DELETE FROM warm_agents WHERE state = 'claimed'")
    await a_minute_passes(app)
    await a_minute_passes(app)

    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert states(world)["claimed"] == 1


async def test_a_backup_from_before_its_claim(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """There it still waits."""
    assert worker.takes_jobs
    app = await start(start_app, agents=policy(warm=1))
    await rounds(app, 2)
    server.join("room")
    await app.dispatch()
    await app.settle()
    (agent,) = world.agents("room")
    await app.stop()
    for table in ("dispatches", "history", "participants", "rooms"):
        world.database.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    world.database.execute(
        "UPDATE warm_agents SET state = 'waiting', claimed_by = NULL, claimed_at = NULL"
        " WHERE state = 'claimed'"
    )

    app = await restart(start_app)
    for _ in range(3):
        await a_minute_passes(app)

    assert [one.identity for one in world.agents("room")] == [agent.identity]
    assert await app.state() == "active"
    assert states(world)["claimed"] == 1


async def test_while_its_holding_room_cannot_be_read_it_stays(
    start_app: StartApp, world: World, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (room,) = held(world)
    original = world.livekit.list_dispatches

    async def list_dispatches(room_name: str) -> tuple[ListedDispatch, ...]:
        if room_name == room:
            raise UNAVAILABLE
        return await original(room_name)

    with monkeypatch.context() as patch:
        patch.setattr(world.livekit, "list_dispatches", list_dispatches)
        app = await restart(start_app)
        for _ in range(3):
            await a_minute_passes(app)
        assert room in held(world)
        assert [agent.identity for agent in world.agents("room")] == [identity]
        assert await app.state() == "none"

    await app.sweep()
    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert await app.state() == "active"


async def test_beside_a_newer_agent_it_stays(
    start_app: StartApp, world: World, server: FakeServer, identity: str
) -> None:
    """As with agents of another service: the oldest one stays."""
    world.clock.advance(1)
    server.create_dispatch("room", AGENT, "a row that was lost")
    world.clock.advance(10)
    app = await restart(start_app)
    await a_minute_passes(app)

    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert await app.state() == "active"


async def test_on_hold_it_goes_with_its_holding_room(
    start_app: StartApp, world: World, identity: str
) -> None:
    app = await restart(start_app)
    (row,) = await app.listed()
    assert (await app.call("POST", f"/api/livekit/agents/{row['dispatchId']}/hold")).status == 200
    await a_minute_passes(app)

    assert identity not in [agent.identity for agent in world.agents("room")]
    assert not held(world)


async def test_a_claimed_agent_that_is_with_nobody_goes(
    start_app: StartApp, worker: FakeWorker, world: World, server: FakeServer, identity: str
) -> None:
    """Its person's room was closed while no service ran, and its process does not notice."""
    (room,) = held(world)
    server.freeze(worker)
    server.delete_room("room")
    app = await restart(start_app)
    assert identity in [agent.identity for agent in server.rooms[room].agents]
    await a_minute_passes(app)
    assert room not in server.rooms
