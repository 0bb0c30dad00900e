"""People who join under an agent's identity: they put the agent out, and are never taken for it."""

import asyncio

import pytest

from app.control.drift import ROLLING_ROUNDS
from app.livekit.interface import Probe
from fakes.faults import UNAVAILABLE, FailBefore
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, BOUND_S, ON_BOTH, App, World

pytestmark = pytest.mark.usefixtures("worker")


async def with_alice(app: App, server: FakeServer) -> str:
    """The identity of an agent that answers Alice."""
    await app.dispatch()
    await app.advance(1)
    server.join("room")
    await app.advance(6)
    (agent,) = app.world.agents("room")
    return agent.identity


async def settle_without(app: App, *events: str) -> None:
    """Settle, but lose the webhooks of these kinds that are on their way."""
    for webhook in app.world.post.take():
        if webhook.event not in events:
            assert (await app.deliver(webhook)).status == 200
    await app.settle()


async def assert_replaced(app: App, taken: str) -> None:
    """Check that one new agent answers Alice, and that nobody was put out for it."""
    await app.advance(1)
    (agent,) = app.world.agents("room")
    assert agent.identity != taken
    assert agent.answers("alice")
    assert {one.identity for one in app.world.livekit.server.rooms["room"].people} == {"alice", taken}
    assert app.world.livekit.count("remove_participant") == 0
    rows = {row["agent_identity"]: (row["state"], row["end_reason"]) for row in app.world.rows("dispatches")}
    assert rows == {taken: ("ended", "agent_failed"), agent.identity: ("active", None)}


@ON_BOTH
@pytest.mark.parametrize("order", [1, -1], ids=["as sent", "reversed"])
async def test_an_agent_whose_identity_a_person_takes_is_replaced_at_once(
    order: int, app: App, world: World, server: FakeServer
) -> None:
    taken = await with_alice(app, server)
    server.join("room", taken)
    webhooks = world.post.take()
    assert [one.event for one in webhooks] == ["participant_left", "participant_joined"]
    for webhook in webhooks[::order]:
        await app.deliver(webhook)

    # Nobody had to be asked.
    assert {row["end_reason"] for row in world.rows("dispatches")} == {"agent_failed", None}
    await app.settle()
    await assert_replaced(app, taken)


@ON_BOTH
@pytest.mark.parametrize("lost", ["participant_joined", "participant_left"])
async def test_one_lost_webhook_delays_the_replacement_by_a_second_at_most(
    lost: str, app: App, server: FakeServer
) -> None:
    taken = await with_alice(app, server)
    server.join("room", taken)
    await settle_without(app, lost)

    await assert_replaced(app, taken)


async def test_both_webhooks_lost_are_made_up_for_by_the_next_round(app: App, server: FakeServer) -> None:
    taken = await with_alice(app, server)
    server.join("room", taken)
    await settle_without(app, "participant_joined", "participant_left")
    await app.sweep()

    await assert_replaced(app, taken)


async def test_an_agent_that_reconnects_under_its_identity_is_kept(
    app: App, world: World, server: FakeServer
) -> None:
    identity = await with_alice(app, server)
    calls = len(world.livekit.calls)
    server.reconnect("room", identity)
    await app.settle()

    # LiveKit was not asked either.
    assert len(world.livekit.calls) == calls
    for _ in range(ROLLING_ROUNDS):
        await app.service.liveness.probe_all()
        await app.sweep()
    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert world.livekit.count("create_dispatch") == 1


@pytest.mark.parametrize("lost", ["participant_joined", "participant_left"])
async def test_an_agent_that_reconnects_is_kept_although_a_webhook_is_lost(
    lost: str, app: App, world: World, server: FakeServer
) -> None:
    identity = await with_alice(app, server)
    server.reconnect("room", identity)
    await settle_without(app, lost)
    await app.service.liveness.probe_all()
    await app.sweep()

    assert [agent.identity for agent in world.agents("room")] == [identity]
    assert await app.state() == "active"
    assert world.livekit.count("create_dispatch") == 1


@ON_BOTH
async def test_a_persons_answer_to_the_probe_does_not_count_as_the_agents(
    app: App, world: World, server: FakeServer
) -> None:
    """The person's join is lost, and LiveKit does not answer when it is asked who has the identity."""
    taken = await with_alice(app, server)
    server.join("room", taken)
    assert await world.livekit.probe("room", taken) is Probe.ALIVE
    before = len(world.livekit.calls)
    world.livekit.faults.script("find_room", FailBefore(UNAVAILABLE))
    await settle_without(app, "participant_joined")
    assert await app.state() == "active"

    await app.service.liveness.probe_all()
    await app.settle()

    await assert_replaced(app, taken)
    assert ("room", taken) not in [call.arguments for call in world.livekit.calls[before:]]


async def test_a_request_gets_an_agent_and_not_the_person_with_its_identity(
    app: App, server: FakeServer
) -> None:
    taken = await with_alice(app, server)
    server.join("room", taken)
    await settle_without(app, "participant_joined", "participant_left")

    assert (await app.dispatch()).body["reused"] is False
    await assert_replaced(app, taken)


async def test_a_person_with_an_agents_identity_is_not_adopted(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    """Another program has dispatched the agent, and LiveKit still lists its job."""
    foreign = server.create_dispatch("room", AGENT)
    # As long as nobody waits for an agent.
    world.clock.advance(20)
    (taken,) = foreign.jobs
    server.join("room", taken)
    server.join("room")
    world.post.take()
    app = await start_app()
    assert (await app.dispatch()).body["reused"] is False
    await app.advance(6)

    (agent,) = world.agents("room")
    assert agent.identity != taken
    assert agent.answers("alice")
    assert {one.identity for one in server.rooms["room"].people} == {"alice", taken}


async def test_a_person_who_takes_the_identity_of_a_surplus_agent_is_not_removed_for_it(
    app: App, world: World, server: FakeServer
) -> None:
    """The person joins between the inspection and the removal that it leads to."""
    await with_alice(app, server)
    foreign = server.create_dispatch("room", AGENT)
    world.clock.advance(6)
    (surplus,) = foreign.jobs
    world.post.take()
    deletion = world.livekit.faults.hang("delete_dispatch")
    sweeping = asyncio.create_task(app.service.sweeper.sweep())
    async with asyncio.timeout(BOUND_S):
        await deletion.reached.wait()
    (deleted,) = [call.arguments[1] for call in world.livekit.calls if call.method == "delete_dispatch"]
    server.join("room", surplus)
    deletion.release()
    await sweeping
    await app.settle()

    assert deleted == foreign.id
    assert surplus in {one.identity for one in server.rooms["room"].people}


async def test_the_identity_of_a_former_agent_is_nobodys(app: App, world: World, server: FakeServer) -> None:
    former = await with_alice(app, server)
    server.leave("room", former, "CONNECTION_TIMEOUT")
    await app.settle()
    await app.advance(1)
    (agent,) = world.agents("room")
    server.join("room", former)
    await app.settle()
    for _ in range(ROLLING_ROUNDS):
        await app.sweep()

    assert world.agents("room") == [agent]
    assert await app.state() == "active"
    await app.end()
    assert {one.identity for one in server.rooms["room"].people} == {"alice", former}


async def test_a_person_with_the_identity_of_an_avatar_is_not_removed_with_the_agent(
    app: App, world: World, server: FakeServer
) -> None:
    await with_alice(app, server)
    (agent,) = world.agents("room")
    avatar = server.join_avatar("room", agent)
    await app.settle()
    server.join("room", avatar.identity)
    await app.settle()

    assert world.agents("room") == [agent]
    await app.end()
    assert world.agents("room") == []
    assert {one.identity for one in server.rooms["room"].people} == {"alice", avatar.identity}


async def test_a_person_in_the_place_of_an_agent_that_is_to_be_ended_stays(
    app: App, world: World, server: FakeServer
) -> None:
    taken = await with_alice(app, server)
    server.join("room", taken)
    assert (await app.end()).status == 200
    await app.settle()

    assert world.dispatches("room") == []
    assert {one.identity for one in server.rooms["room"].people} == {"alice", taken}
