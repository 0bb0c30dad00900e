"""The rows of warm agents: claimed by one dispatch only, within the limits, and what they cost."""

import asyncio
from dataclasses import replace

import pytest

from app.lifecycle import SECOND_US
from app.lifecycle.warm import WarmAgent, WarmEnd, WarmEvent, WarmSignal, WarmState
from fakes.server import FakeServer
from integration.harness import AGENT, ON_BOTH, App, World

#: A round would end what waits: no policy wants it.
pytestmark = pytest.mark.usefixtures("warm_pool_by_hand")


async def stored(app: App, world: World, number: int = 1, *, deployment: str = "") -> WarmAgent:
    """One that waits."""
    table, now = app.service.store.warm_agents, world.clock.now()
    agent = WarmAgent(id=f"warm-{number}", agent_name=AGENT, deployment=deployment, created_at=now)
    await table.add([agent], None)
    signals = (
        WarmSignal(event=WarmEvent.DISPATCHED, dispatch_id=f"AD_warm_{number}"),
        WarmSignal(event=WarmEvent.READY, agent_identity=f"agent-AJ_warm_{number}"),
    )
    for signal in signals:
        changed = await table.advance(agent, signal, now)
        assert changed
        agent = changed
    return agent


async def creating(app: App, world: World, room: str = "room") -> str:
    """The id of a dispatch's row that is creating."""
    world.livekit.server.create_dispatch(room, "nobody's")
    await app.dispatch(room)
    row_id: str = next(row["id"] for row in world.rows("dispatches") if row["room_name"] == room)
    world.database.execute(
        f"UPDATE dispatches SET state = 'creating', dispatch_id = NULL WHERE id = '{row_id}'"  # noqa: S608
    )
    return row_id


@ON_BOTH
async def test_an_agent_is_claimed_by_one_dispatch_only(app: App, world: World) -> None:
    store = app.service.store
    await stored(app, world)
    rows = [await store.dispatch(await creating(app, world, room)) for room in ("one", "two")]

    claimed = await asyncio.gather(*(store.warm_agents.claim(row, 9) for row in rows if row))

    (agent,) = [one for one in claimed if one]
    (winner,) = [row for row, one in zip(rows, claimed, strict=True) if one and row]
    assert (agent.state, agent.claimed_by, agent.claimed_at) == (WarmState.CLAIMED, winner.id, 9)
    holding = {row["id"]: row["holding_room"] for row in world.rows("dispatches")}
    assert {row.id: holding[row.id] for row in rows if row} == {
        row.id: agent.room_name if row is winner else None for row in rows if row
    }


@ON_BOTH
async def test_a_claim_takes_its_own_deployment_and_a_creating_dispatch(app: App, world: World) -> None:
    store = app.service.store
    await stored(app, world, deployment="v2")
    row = await store.dispatch(await creating(app, world))
    assert row
    assert await store.warm_agents.claim(row, 9) is None
    await stored(app, world, 2)
    world.database.execute("UPDATE dispatches SET state = 'starting'")
    assert await store.warm_agents.claim(row, 9) is None
    assert {agent.state for agent in await store.warm_agents.open()} == {WarmState.WAITING}


@ON_BOTH
async def test_a_parted_agent_is_the_former_one_of_its_dispatch(app: App, world: World) -> None:
    store = app.service.store
    await stored(app, world)
    row = await store.dispatch(await creating(app, world))
    assert row
    agent = await store.warm_agents.claim(row, 9)
    row = await store.dispatch(row.id)
    assert agent
    assert row
    assert await store.warm_agents.of_dispatch(row) == agent

    await store.warm_agents.part(row, agent, 10)

    row = await store.dispatch(row.id)
    assert row
    assert (row.holding_room, row.former_agent) == (None, agent.agent_identity)
    assert await store.warm_agents.open() == []
    (ended,) = await store.warm_agents.recent(AGENT, "", 5)
    assert (ended.state, ended.end_reason, ended.ended_at) == (
        WarmState.ENDED,
        WarmEnd.CLAIM_FAILED,
        10,
    )


@ON_BOTH
async def test_a_change_finds_the_row_as_it_was_or_does_nothing(app: App, world: World) -> None:
    table = app.service.store.warm_agents
    agent = await stored(app, world)
    dismissed = WarmSignal(event=WarmEvent.DISMISSED, reason=WarmEnd.LOST)
    assert await table.advance(agent, dismissed, 5)
    assert await table.advance(agent, dismissed, 6) is None
    assert await table.advance(agent, WarmSignal(event=WarmEvent.DISPATCHED), 6) is None


@ON_BOTH
async def test_what_lives_and_what_waits_stay_within_the_limit(app: App, world: World) -> None:
    table, now = app.service.store.warm_agents, world.clock.now()
    await app.dispatch("one")
    new = [WarmAgent(id=f"warm-{number}", agent_name=AGENT, created_at=now) for number in range(3)]
    assert await table.add(new, 3) == new[:2]
    assert list(await table.add([replace(new[2], id="warm-9")], 3)) == []
    assert await table.taken(AGENT) == 1
    assert await table.count_made(AGENT, now - 1, now) == 2
    assert await table.count_made(AGENT, now, now + 1) == 0
    assert await table.count_made(AGENT, now - 2, now - 1) == 0


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_ledger_has_their_time_apart_from_dispatches(
    app: App, world: World, server: FakeServer
) -> None:
    table = app.service.store.warm_agents
    agent = await stored(app, world)
    other = await stored(app, world, 2)
    await app.dispatch()
    server.join("room")
    await app.advance(10)

    dismissed = await table.advance(
        agent, WarmSignal(event=WarmEvent.DISMISSED, reason=WarmEnd.AGED), world.clock.now()
    )
    assert dismissed
    assert await table.advance(dismissed, WarmSignal(event=WarmEvent.REMOVED), world.clock.now())
    await app.advance(5)

    for by in ("agent", "day"):
        usage = await app.usage(by=by)
        (item,) = usage["items"]
        assert (item["warmS"], item["dispatches"]) == (25, 1)
        assert (usage["totals"]["warmS"], usage["totals"]["dispatches"]) == (25, 1)
    (item,) = (await app.usage(by="room"))["items"]
    assert (item["key"], item["warmS"]) == ("room", 0)
    assert other.waited_until is None


@ON_BOTH
async def test_ended_ones_are_pruned(app: App, world: World) -> None:
    table = app.service.store.warm_agents
    agent = await stored(app, world)
    await stored(app, world, 2)
    dismissed = await table.advance(
        agent, WarmSignal(event=WarmEvent.DISMISSED, reason=WarmEnd.AGED), world.clock.now()
    )
    assert dismissed
    await table.advance(dismissed, WarmSignal(event=WarmEvent.REMOVED), world.clock.now())
    await app.service.store.prune(world.clock.now() + SECOND_US)
    assert [row["id"] for row in world.rows("warm_agents")] == ["warm-2"]
