"""Conversations: what ends one, so that nothing of it is kept, and what the next agent goes on with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.config.agents import AgentPolicy
from app.lifecycle import Restart
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, ON_BOTH, App, World
from integration.test_memory import HISTORY, forget_room, load, remembered, save

TTL_S, CONNECTION_TIMEOUT_S = 300, 22


@pytest.fixture
async def memory_app(start_app: StartApp) -> App:
    return await start_app(conversation_memory=True)


async def talk(app: App, server: FakeServer, job: str = "AJ_1") -> dict[str, str]:
    """Alice is in with an agent that has saved; the names of the conversation."""
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    if not server.rooms["room"].people:
        server.join("room")
    await app.advance(6)
    assert await app.state() == "active"
    names = {"roomSid": server.rooms["room"].sid, "dispatchId": dispatch_id}
    await load(app, job, **names)
    assert (await save(app, job, **names)).status == 200
    return names


async def after(app: App, names: dict[str, str]) -> Any:
    """What an agent finds that comes into the same instance of the room."""
    return await remembered(app, "AJ_after", **(names | {"dispatchId": "AD_after"}))


# What ends it

End = Callable[[App, FakeServer], Awaitable[None]]


async def by_a_call(app: App, _: FakeServer) -> None:
    assert (await app.end()).status == 200


async def by_its_ttl(app: App, server: FakeServer) -> None:
    server.leave("room")
    await app.settle()
    await app.pass_time(TTL_S)


async def by_itself(app: App, server: FakeServer) -> None:
    await app.advance(30)
    server.leave("room", server.rooms["room"].agents[0].identity)
    await app.settle()


async def by_the_end_of_the_room(app: App, server: FakeServer) -> None:
    server.leave("room")
    server.delete_room("room")
    await app.settle()


async def by_the_end_of_the_room_unseen(app: App, server: FakeServer) -> None:
    app.world.post.lossy = True
    server.leave("room")
    server.delete_room("room")
    await app.settle()
    app.world.post.lossy = False
    await app.sweep()


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "end", [by_a_call, by_its_ttl, by_itself, by_the_end_of_the_room, by_the_end_of_the_room_unseen]
)
async def test_what_ends_the_agent_for_good_forgets_the_conversation(
    memory_app: App, world: World, server: FakeServer, end: End
) -> None:
    names = await talk(memory_app, server)
    await end(memory_app, server)
    assert world.rows("memories") == []
    assert (await save(memory_app, number=2, **names)).code == "memory_forgotten"
    # Nor does the dying agent begin a new one.
    assert (await load(memory_app, **names)).code == "memory_forgotten"
    assert world.rows("memories") == []


@pytest.mark.usefixtures("worker")
async def test_it_is_forgotten_when_the_claim_is_stored_not_when_the_agent_is_gone(
    memory_app: App, world: World, server: FakeServer
) -> None:
    names = await talk(memory_app, server)
    hanging = world.livekit.faults.hang("delete_dispatch")
    async with asyncio.TaskGroup() as group:
        group.create_task(memory_app.end())
        await hanging.reached.wait()
        assert world.rows("memories") == []
        # An agent whose dispatch the service does not know yet may be that one.
        await load(memory_app, "AJ_dying", **(names | {"dispatchId": "AD_not_known"}))
        hanging.release()
    assert world.rows("memories") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_however_a_load_and_the_end_meet_nothing_is_left(
    memory_app: App, world: World, server: FakeServer
) -> None:
    names = await talk(memory_app, server)
    loads = (load(memory_app, f"AJ_{number}", **names) for number in range(20))
    _, *answers = await asyncio.gather(memory_app.end(), *loads)
    assert {answer.code for answer in answers if answer.status != 200} <= {"memory_forgotten"}
    assert world.rows("memories") == []


async def test_a_dead_agent_that_is_not_restarted_is_the_end(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start_app(conversation_memory=True, restart=Restart.NEVER)
    await talk(app, server)
    server.kill(worker)
    await app.advance(CONNECTION_TIMEOUT_S)
    assert world.rows("memories") == []


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_is_to_be_told_something_else_begins_anew(
    memory_app: App, world: World, server: FakeServer
) -> None:
    await talk(memory_app, server)
    changed = await memory_app.dispatch(metadata="something else", replaceIfMetadataDiffers=True)
    assert changed.status == 200, changed
    assert world.rows("memories") == []


# What goes on


async def test_an_agent_in_the_place_of_a_dead_one_goes_on(
    memory_app: App, server: FakeServer, worker: FakeWorker
) -> None:
    names = await talk(memory_app, server)
    server.kill(worker)
    server.start_worker(AGENT)
    await memory_app.advance(CONNECTION_TIMEOUT_S)
    await memory_app.advance(1)
    assert await memory_app.state() == "active"
    assert await after(memory_app, names) == HISTORY


async def test_an_agent_in_the_place_of_a_frozen_one_goes_on(
    memory_app: App, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    names = await talk(memory_app, server)
    server.freeze(worker)
    server.workers.remove(worker)
    server.start_worker(AGENT)
    await memory_app.service.liveness.probe_all()
    await memory_app.advance(6)
    assert len(world.agents("room")) == 1
    assert await after(memory_app, names) == HISTORY
    # The frozen one wakes up.
    assert (await save(memory_app, number=2, **names)).code == "memory_taken"
    assert (await load(memory_app, **names)).code == "memory_forgotten"


async def test_while_no_worker_has_an_agent_the_conversation_waits(
    memory_app: App, server: FakeServer, worker: FakeWorker
) -> None:
    names = await talk(memory_app, server)
    server.kill(worker)
    await memory_app.advance(CONNECTION_TIMEOUT_S)
    for _ in range(8):
        await memory_app.pass_time(60)
    assert await memory_app.state() in ("starting", "unavailable")
    assert await after(memory_app, names) == HISTORY


@pytest.mark.usefixtures("worker")
async def test_after_a_hold_the_agent_goes_on(memory_app: App, world: World, server: FakeServer) -> None:
    names = await talk(memory_app, server)
    path = f"{AGENTS}/{names['dispatchId']}"
    assert (await memory_app.call("POST", f"{path}/hold")).status == 200
    await memory_app.settle()
    assert world.agents("room") == []
    assert (await memory_app.call("POST", f"{path}/resume")).status == 200
    await memory_app.advance(6)
    assert await after(memory_app, names) == HISTORY


@pytest.mark.usefixtures("worker")
async def test_after_a_longest_session_the_next_agent_goes_on(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    agents = {AGENT: AgentPolicy(ttl_s=TTL_S, join_timeout_s=15, max_session_s=600, warn_before_s=0)}
    app = await start_app(conversation_memory=True, agents=agents)
    names = await talk(app, server)
    await app.pass_time(600)
    assert await app.state() == "none"
    assert (await app.dispatch()).status == 200
    await app.advance(6)
    assert await after(app, names) == HISTORY

    await app.pass_time(600)
    assert await app.state() == "none"
    # There is no agent to end, but what it has said is forgotten.
    assert (await app.end()).status == 200
    assert world.rows("memories") == []


@pytest.mark.usefixtures("worker")
async def test_after_a_longest_session_the_end_of_the_room_forgets(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    agents = {AGENT: AgentPolicy(ttl_s=TTL_S, join_timeout_s=15, max_session_s=600, warn_before_s=0)}
    app = await start_app(conversation_memory=True, agents=agents)
    await talk(app, server)
    await app.pass_time(600)
    assert len(world.rows("memories")) == 1
    server.leave("room")
    server.delete_room("room")
    await app.settle()
    assert world.rows("memories") == []


@pytest.mark.usefixtures("worker")
async def test_somebody_who_comes_back_in_time_keeps_the_conversation(
    memory_app: App, server: FakeServer
) -> None:
    names = await talk(memory_app, server)
    server.leave("room")
    await memory_app.pass_time(TTL_S - 1)
    server.join("room", "bob")
    await memory_app.settle()
    assert (await save(memory_app, number=2, **names)).status == 200
    assert await after(memory_app, names) == HISTORY


@pytest.mark.usefixtures("worker")
async def test_an_agent_whose_removal_was_called_off_goes_on_saving(
    memory_app: App, world: World, server: FakeServer
) -> None:
    """Its TTL has passed, and LiveKit says that somebody is in whose join nobody has told."""
    names = await talk(memory_app, server)
    server.leave("room")
    await memory_app.settle()
    world.post.lossy = True
    server.join("room", "bob")
    await memory_app.advance(TTL_S)
    world.post.lossy = False
    await memory_app.sweep()
    assert await memory_app.state() == "active"
    assert (await save(memory_app, number=2, **names)).status == 200


@pytest.mark.usefixtures("worker")
async def test_a_later_room_of_that_name_knows_nothing(
    memory_app: App, world: World, server: FakeServer
) -> None:
    """Even if every webhook of the end of the former one was lost, and its agent is there already."""
    names = await talk(memory_app, server)
    world.post.lossy = True
    server.leave("room")
    server.delete_room("room")
    server.open_room("room")
    server.join("room")
    await memory_app.settle()
    world.post.lossy = False
    assert server.rooms["room"].sid != names["roomSid"]
    own = {"roomSid": server.rooms["room"].sid, "dispatchId": "AD_of_a_token"}
    assert await remembered(memory_app, "AJ_2", **own) is None
    await memory_app.dispatch()
    await memory_app.advance(6)
    assert [row["room_sid"] for row in world.rows("memories")] == [own["roomSid"]]


@pytest.mark.usefixtures("worker")
async def test_the_agent_of_a_forgotten_room_stays_and_saves_nothing_more(
    memory_app: App, world: World, server: FakeServer
) -> None:
    names = await talk(memory_app, server)
    assert (await forget_room(memory_app)).body["forgotten"] == 1
    assert await memory_app.state() == "active"
    assert (await save(memory_app, number=2, **names)).code == "memory_forgotten"
    assert world.rows("memories") == []
