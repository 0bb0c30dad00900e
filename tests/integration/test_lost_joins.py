"""Lost joins and late job lists: such agents are not taken from people."""

import pytest

from app.state.views import Deadline
from fakes.server import FakeServer
from integration.harness import AGENT, App, World


@pytest.mark.usefixtures("worker")
async def test_an_agent_is_not_overdue_before_livekit_was_asked(
    app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    await app.dispatch()
    world.post.lossy = True
    await app.advance(1)
    world.post.lossy = False
    (agent,) = world.agents("room")
    await app.advance(15)

    (row,) = world.rows("dispatches")
    app.service.sweeper.act(Deadline(row["id"], "room", row["due_at"]))
    await app.settle()

    assert world.agents("room") == [agent]
    assert await app.state() == "active"


async def test_of_two_agents_none_is_removed_before_livekit_names_their_dispatches(
    app: App, world: World, server: FakeServer
) -> None:
    for joins_after_s in (0.1, 0.15):
        server.start_worker(AGENT, joins_after_s=joins_after_s)
    server.join("room")
    server.create_dispatch("room", AGENT)
    world.clock.advance(0.01)
    kept = server.create_dispatch("room", AGENT)
    await app.sweep()
    assert set(server.rooms["room"].dispatches) == {kept.id}
    # LiveKit ends the other's job only at the 5 s mark: its agent joins first, and looks like the kept one's.
    await app.advance(0.16)

    assert kept.job in {agent.identity for agent in world.agents("room")}


@pytest.mark.usefixtures("worker")
async def test_an_agent_whose_dispatch_was_deleted_is_not_reused(
    app: App, world: World, server: FakeServer
) -> None:
    """LiveKit ends its job a moment later: it still answers, but will be gone."""
    server.join("room")
    first = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    assert await app.state() == "active"
    server.delete_dispatch(server.rooms["room"], first)

    answer = await app.dispatch()
    await app.advance(6)

    assert answer.body["reused"] is False
    assert answer.body["dispatchId"] != first
    (agent,) = world.agents("room")
    assert agent.answers("alice")
