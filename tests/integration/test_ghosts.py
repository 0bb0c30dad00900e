"""LiveKit may list an agent that has left until the room closes: it costs nobody an agent, and no call."""

import pytest

from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import ON_BOTH, App, World

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(autouse=True)
def _listed_for_ever(server: FakeServer) -> None:
    server.keeps_ghosts = True


async def with_alice(app: App, server: FakeServer) -> str:
    """Alice is in, and an agent with her. Returns its identity."""
    server.join("room")
    await app.dispatch()
    await app.advance(6)
    [agent] = server.rooms["room"].agents
    return agent.identity


async def ghosts(livekit: FakeLiveKit) -> list[str | None]:
    listed = await livekit.list_participants("room")
    return [one.identity for one in listed if one.identity in livekit.server.rooms["room"].ghosts]


@ON_BOTH
async def test_a_dispatch_ends_with_its_agent(app: App, livekit: FakeLiveKit, server: FakeServer) -> None:
    agent = await with_alice(app, server)

    await app.end()
    await app.pass_time(60)

    assert await ghosts(livekit) == [agent]
    assert await app.state() == "none"
    assert await app.listed() == []


@ON_BOTH
@pytest.mark.parametrize("how", ["end", "lost"])
async def test_the_next_agent_comes_at_once_and_stays(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer, how: str
) -> None:
    former = await with_alice(app, server)
    if how == "end":
        await app.end()
    else:
        server.leave("room", former, "CONNECTION_TIMEOUT")
    await app.settle()

    answer = await app.dispatch()
    await app.advance(6)
    for _ in range(5):
        await app.pass_time(60)

    assert answer.status == 200
    assert await ghosts(livekit) == [former]
    [agent] = world.agents("room")
    assert agent.answers("alice")
    assert await app.state() == "active"
    assert (await app.dispatch()).body["reused"] is True
    assert livekit.count("create_dispatch") == 2


async def test_an_avatar_that_is_listed_still_keeps_no_dispatch(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    agent = await with_alice(app, server)
    avatar = server.join_avatar("room", server.rooms["room"].agents[0])
    await app.settle()

    await app.end()
    await app.pass_time(60)

    assert set(await ghosts(livekit)) == {agent, avatar.identity}
    assert await app.listed() == []


async def test_nobody_is_asked_to_remove_it_again_and_again(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    former = await with_alice(app, server)
    await app.end()
    await app.pass_time(6)
    before = livekit.count("remove_participant")
    for _ in range(5):
        await app.pass_time(60)

    assert await ghosts(livekit) == [former]
    assert livekit.count("remove_participant") == before


async def test_a_ttl_ends_the_dispatch(app: App, livekit: FakeLiveKit, server: FakeServer) -> None:
    server.open_room("room", departure_timeout_s=10_000)
    agent = await with_alice(app, server)
    server.leave("room")
    await app.settle()
    await app.pass_time(400)
    await app.pass_time(60)

    assert await ghosts(livekit) == [agent]
    assert await app.listed() == []


async def test_a_successor_of_the_same_identity_is_no_ghost(
    app: App, world: World, server: FakeServer
) -> None:
    """Of a worker that gives all its agents one identity."""
    server.fixed_identity = "assistant"
    former = await with_alice(app, server)
    server.leave("room", former, "CONNECTION_TIMEOUT")
    await app.settle()
    await app.dispatch()
    await app.pass_time(60)

    [agent] = world.agents("room")
    assert agent.identity == former
    assert agent.answers("alice")
    assert await app.state() == "active"
    await app.end()
    await app.pass_time(60)
    assert world.agents("room") == []
    assert await app.listed() == []


async def test_where_the_webhook_is_lost_too_the_dispatch_ends_with_the_room(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer
) -> None:
    agent = await with_alice(app, server)
    world.post.lossy = True
    await app.end()
    world.post.lossy = False
    await app.pass_time(60)

    assert await ghosts(livekit) == [agent]
    assert [one["state"] for one in await app.listed()] == ["ending"]
    server.delete_room("room")
    await app.pass_time(60)
    assert await app.listed() == []
