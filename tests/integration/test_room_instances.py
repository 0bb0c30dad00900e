"""The instance of a room that LiveKit reports now is the room, whatever webhooks have said."""

import logging
from dataclasses import replace

import pytest

from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeAgent, FakeRoom
from fakes.server import FakeServer
from fakes.webhooks import SignedWebhook, render, sign
from integration.harness import AGENT, CLOCKS_APART, KEYPAIR, ON_BOTH, App, World

_AHEAD_US = 600_000_000
#: The latest time that a webhook may have.
_LATEST_US = (10**10 - 1) * 1_000_000


def foreign(room: FakeRoom, created_at: int | None = None) -> FakeRoom:
    """Another instance of the room, ten minutes newer: of a second LiveKit, or of a clock that was wrong."""
    return FakeRoom(
        name=room.name,
        sid=f"{room.sid}_elsewhere",
        created_at=created_at or room.created_at + _AHEAD_US,
        empty_timeout_s=300,
        departure_timeout_s=20,
    )


def event(name: str, world: World, room: FakeRoom) -> SignedWebhook:
    body = render(name, world.livekit.server.now(), room)
    return SignedWebhook(event=name, room_name=room.name, body=body, authorization=sign(body, KEYPAIR))


async def conflicts(app: App) -> float:
    _, _, text = await app.scrape()
    lines = [line for line in text.splitlines() if line.startswith("agent_lifecycle_room_conflicts_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def tell(app: App, webhook: SignedWebhook) -> None:
    assert (await app.deliver(webhook)).status == 200
    await app.settle()


async def with_agent(app: App, world: World, server: FakeServer) -> FakeAgent:
    """A person is in the room, and an agent."""
    server.join("room")
    await app.dispatch()
    await app.advance(1)
    (agent,) = world.agents("room")
    return agent


async def outage(app: App, world: World, server: FakeServer) -> tuple[FakeAgent, FakeAgent]:
    """LiveKit restarts with a person in, who comes back and gets an agent: the ones before and after."""
    before = await with_agent(app, world, server)
    server.restart()
    agent = await with_agent(app, world, server)
    assert agent.identity != before.identity
    return before, agent


@ON_BOTH
@CLOCKS_APART
@pytest.mark.parametrize("created_at", [None, _LATEST_US], ids=["in ten minutes", "in the year 2286"])
@pytest.mark.usefixtures("worker")
async def test_the_end_of_an_instance_from_the_future_keeps_nobody_out(
    app: App, world: World, server: FakeServer, created_at: int | None
) -> None:
    room = FakeRoom(
        name="room", sid="RM_x", created_at=server.now(), empty_timeout_s=300, departure_timeout_s=20
    )
    await tell(app, event("room_started", world, foreign(room, created_at)))
    await tell(app, event("room_finished", world, foreign(room, created_at)))
    server.join("room")
    await app.settle()

    answer = await app.dispatch()
    await app.advance(1)

    assert answer.status == 200
    assert (await app.status())["participantCount"] == 1
    assert await app.state() == "active"
    assert len(world.agents("room")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_room_that_does_not_exist_yet_is_made_beside_a_tombstone_from_the_future(
    app: App, world: World, server: FakeServer
) -> None:
    room = FakeRoom(
        name="room", sid="RM_x", created_at=server.now(), empty_timeout_s=300, departure_timeout_s=20
    )
    await tell(app, event("room_finished", world, foreign(room)))

    assert (await app.dispatch()).status == 200
    await app.advance(1)
    assert await app.state() == "idle"
    assert len(world.agents("room")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ["room_started", "room_finished", "participant_joined"])
async def test_another_livekit_cannot_take_an_agent_from_its_people(
    app: App,
    world: World,
    server: FakeServer,
    livekit: FakeLiveKit,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    before = await with_agent(app, world, server)
    other = foreign(server.rooms["room"])
    webhook = event(name, world, other)
    if name == "participant_joined":
        body = render(name, server.now(), other, next(iter(server.rooms["room"].people)))
        webhook = SignedWebhook(event=name, room_name="room", body=body, authorization=sign(body, KEYPAIR))

    for _ in range(3):
        await tell(app, webhook)
        asked = livekit.count("find_room")
        await tell(app, event(name, world, other))

    assert await app.state() == "active"
    assert world.agents("room") == [before]
    assert await conflicts(app) >= 1
    assert livekit.count("find_room") - asked <= 1
    assert sum("contradicts LiveKit" in record.message for record in caplog.records) >= 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_room_that_was_closed_with_people_in_is_over_whatever_was_lost(
    app: App, world: World, server: FakeServer
) -> None:
    await with_agent(app, world, server)
    world.post.lossy = True
    server.delete_room("room")
    room = server.open_room("room")
    world.post.lossy = False

    await tell(app, event("room_started", world, room))

    assert await app.state() == "none"
    assert await conflicts(app) == 0


@pytest.mark.usefixtures("worker")
async def test_a_room_that_comes_back_under_its_sid_is_the_room_again(
    app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    await app.settle()
    await tell(app, event("room_finished", world, server.rooms["room"]))

    assert (await app.dispatch()).status == 200
    await app.advance(1)
    assert (await app.state(), len(world.agents("room"))) == ("active", 1)
    assert [row["agent_name"] for row in world.rows("dispatches")] == [AGENT]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_an_agent_that_comes_back_after_an_outage_is_no_second_one(
    app: App, world: World, server: FakeServer
) -> None:
    """LiveKit was away for a second: the process of the agent from before connects anew."""
    before, agent = await outage(app, world, server)

    server.come_back("room", before)
    await app.settle()

    assert [one.identity for one in world.agents("room")] == [agent.identity]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_one_that_is_back_before_the_next_one_has_loaded_is_not_taken_for_it(
    app: App, world: World, server: FakeServer
) -> None:
    before = await with_agent(app, world, server)
    server.restart()
    server.join("room")
    server.workers[0].joins_after_s = 2
    await app.dispatch()
    await app.settle()

    server.come_back("room", before)
    await app.settle()

    assert world.agents("room") == []
    assert await app.state() == "starting"
    await app.advance(3)
    (agent,) = world.agents("room")
    assert agent.identity != before.identity
    assert await app.state() == "active"


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_one_of_a_workers_own_naming_may_be_the_next_ones_companion(
    app: App, world: World, server: FakeServer
) -> None:
    """Until LiveKit shows whose jobs are whose."""
    before, agent = await outage(app, world, server)
    world.database.execute("UPDATE dispatches SET agent_identity = 'ours' WHERE state = 'ended'")

    server.come_back("room", replace(before, identity="ours"))
    await app.settle()

    assert len(world.agents("room")) == 2
    await app.advance(8)
    await app.sweep()
    assert [one.identity for one in world.agents("room")] == [agent.identity]
