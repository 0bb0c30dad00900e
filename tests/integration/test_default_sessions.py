"""Default sessions, which cannot be asked: whose leave costs an agent its place, and whose does not."""

import asyncio

import pytest

from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import CLOCKS_APART, ON_BOTH, App, World

pytestmark = pytest.mark.usefixtures("plain_worker")


async def alice_talks(app: App, world: World, server: FakeServer) -> str:
    """Alice is in, and the agent is hers. Returns its identity."""
    server.join("room", "alice")
    await app.dispatch()
    await app.advance(1)
    [agent] = world.agents("room")
    assert agent.answers("alice")
    return agent.identity


async def three_talk(app: App, server: FakeServer) -> None:
    """Alice, to whom the agent is linked, Bob and Carol are in with it."""
    for identity in ("alice", "bob", "carol"):
        server.join("room", identity)
    await app.dispatch()
    await app.advance(1)


@CLOCKS_APART
@pytest.mark.parametrize("reason", ["CLIENT_INITIATED", "CONNECTION_TIMEOUT", "DUPLICATE_IDENTITY"])
async def test_nobody_elses_leave_costs_alice_her_agent(
    app: App, world: World, server: FakeServer, reason: str
) -> None:
    agent = await alice_talks(app, world, server)
    for _ in range(3):
        server.join("room", "bob")
        await app.advance(1)
        server.leave("room", "bob", reason)
        await app.advance(1)
        await app.sweep()

    assert [one.identity for one in world.agents("room")] == [agent]
    assert (await app.dispatch()).body["reused"] is True
    assert world.agents("room")[0].answers("alice")


@CLOCKS_APART
async def test_alices_own_leave_does(app: App, world: World, server: FakeServer) -> None:
    agent = await alice_talks(app, world, server)
    server.join("room", "bob")
    await app.settle()
    await app.advance(1)
    server.leave("room", "alice")
    await app.settle()
    await app.advance(1)

    [successor] = world.agents("room")
    assert successor.identity != agent
    assert successor.answers("bob")


@CLOCKS_APART
@pytest.mark.parametrize("reason", ["DUPLICATE_IDENTITY", "CONNECTION_TIMEOUT"])
async def test_alice_is_known_again_after_she_was_cut_off(
    app: App, world: World, server: FakeServer, reason: str
) -> None:
    """The session goes on with her; her next leave closes it, and nobody else's."""
    agent = await alice_talks(app, world, server)
    server.leave("room", "alice", reason)
    server.join("room", "alice")
    server.join("room", "bob")
    await app.settle()
    await app.advance(1)
    server.leave("room", "bob")
    await app.settle()
    await app.advance(1)
    assert [one.identity for one in world.agents("room")] == [agent]

    server.leave("room", "alice")
    server.join("room", "alice")
    await app.settle()
    await app.advance(2)

    [successor] = world.agents("room")
    assert successor.identity != agent
    assert successor.answers("alice")


@CLOCKS_APART
async def test_the_first_to_come_is_the_linked_one_where_nobody_was_in(
    app: App, world: World, server: FakeServer
) -> None:
    await app.dispatch()
    await app.advance(1)
    [agent] = world.agents("room")
    for identity in ("alice", "bob"):
        server.join("room", identity)
        await app.advance(1)
    server.leave("room", "bob")
    await app.settle()
    await app.advance(1)
    assert [one.identity for one in world.agents("room")] == [agent.identity]
    assert agent.answers("alice")


async def test_no_identity_of_a_person_is_stored(app: App, world: World, server: FakeServer) -> None:
    await alice_talks(app, world, server)
    assert all("alice" not in str(row) for rows in world.tables().values() for row in rows)
    people = [row for row in world.rows("participants") if row["kind"] == "person"]
    assert [len(row["person"]) for row in people] == [16]


@ON_BOTH
async def test_when_all_leave_at_once_nothing_is_replaced_created_or_probed(
    app: App, server: FakeServer, livekit: FakeLiveKit
) -> None:
    await three_talk(app, server)
    created, probed = livekit.count("create_dispatch"), livekit.count("probe")
    for identity in ("alice", "bob", "carol"):
        server.leave("room", identity)
    await app.settle()
    await app.pass_time(5)
    await app.service.liveness.probe_all()
    await app.settle()

    assert (livekit.count("create_dispatch"), livekit.count("probe")) == (created, probed)
    assert await app.state() == "idle"


async def test_while_others_are_leaving_too_nothing_is_replaced(
    app: App, server: FakeServer, livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiveKit still lists them when the leave of the one that the agent is linked to is reported."""
    monkeypatch.setattr("app.control.effects._LEAVE_TOGETHER_S", 3)
    await three_talk(app, server)
    created = livekit.count("create_dispatch")
    server.leave("room", "alice")
    [left] = app.world.post.take()
    await app.deliver(left)
    checks = [task for task in asyncio.all_tasks() if task.get_name() == "effects"]
    # A check that looks at once sees the two; it is given the time to.
    await asyncio.wait(checks, timeout=0.2)
    for identity in ("bob", "carol"):
        server.leave("room", identity)
    await app.settle()

    assert livekit.count("create_dispatch") == created
    assert await app.state() == "idle"


@CLOCKS_APART
async def test_an_agent_that_nobody_has_met_is_not_deaf(app: App, world: World) -> None:
    answers = []
    for _ in range(4):
        answers.append(await app.dispatch())
        await app.advance(1.5)

    assert [answer.body["reused"] for answer in answers] == [False, True, True, True]
    assert len(world.agents("room")) == 1
    assert world.livekit.count("create_dispatch") == 1


async def test_where_no_webhook_told_of_the_agent_a_visit_may_have_been_missed(
    app: App, world: World, server: FakeServer
) -> None:
    world.post.lossy = True
    first = await app.dispatch()
    await app.advance(1)
    server.join("room", "alice")
    server.leave("room", "alice")

    answer = await app.dispatch()

    assert answer.body["reused"] is False
    assert answer.body["dispatchId"] != first.body["dispatchId"]
