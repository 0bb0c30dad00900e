"""Two replicas on one Postgres: either takes any webhook and any call, and either may die."""

import asyncio
import random

import pytest

from app.config.agents import AgentPolicy, LearnedTtl
from fakes.server import FakeServer
from fakes.webhooks import SignedWebhook
from integration.harness import AGENT, AGENTS, BOUND_S, ON_POSTGRES, Answer, World
from integration.replicas import LEASE_S, Death, Replica, StartReplica

pytestmark = ON_POSTGRES


def made(method: str, *replicas: Replica) -> int:
    return sum(replica.livekit.count(method) for replica in replicas)


async def both_sweep(a: Replica, b: Replica) -> None:
    await asyncio.gather(a.app.service.sweeper.sweep(), b.app.service.sweeper.sweep())
    await a.app.settle()
    await b.app.settle()


async def sweep_beside_a_call(replica: Replica) -> None:
    """A sweep of one replica with all its effects, while a call to the other one hangs."""
    await replica.app.service.sweeper.sweep()
    async with asyncio.timeout(BOUND_S):
        for _ in range(3):
            await asyncio.sleep(0)
        while busy := [task for task in asyncio.all_tasks() if task.get_name() in ("deadline", "effects")]:
            await asyncio.wait(busy)


@pytest.mark.usefixtures("worker")
async def test_webhooks_to_one_replica_and_calls_to_both_work(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    server.join("room")
    await a.app.settle()

    answers = await asyncio.gather(*(replica.app.dispatch() for replica in (a, b) * 10))
    await a.app.advance(1)

    assert [answer for answer in answers if answer.status != 200] == []
    assert len({answer.body["dispatchId"] for answer in answers}) == 1
    assert [answer.body["reused"] for answer in answers].count(False) == 1
    assert made("create_dispatch", a, b) == len(world.agents("room")) == 1
    assert await a.app.status() == await b.app.status()
    assert await b.app.state() == "active"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("by_call", [True, False], ids=["a call", "a look"])
async def test_a_dispatch_made_during_another_replicas_inspection_is_not_missing(
    a: Replica, b: Replica, world: World, server: FakeServer, *, by_call: bool
) -> None:
    """LiveKit's list is older than the row."""
    server.join("room")
    await a.app.settle()
    asking = a.livekit.faults.hang("list_dispatches", acted=True)
    look = a.app.dispatch() if by_call else a.app.service.reconciler.inspect("room")
    task = asyncio.ensure_future(look)
    await asking.reached.wait()

    made_by_b = await b.app.dispatch()
    asking.release()
    await task
    await a.app.advance(1)

    assert world.dispatches("room") == [made_by_b.body["dispatchId"]]
    assert made("create_dispatch", a, b) == len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_two_replicas_on_one_database_make_one_dispatch(a: Replica, b: Replica, world: World) -> None:
    stuck = a.livekit.faults.hang("create_dispatch")
    first = asyncio.create_task(a.app.dispatch())
    await stuck.reached.wait()
    second = asyncio.create_task(b.app.dispatch())
    # It either waits for the winner's row, or has created its own dispatch by then.
    await asyncio.wait([second], timeout=1)
    stuck.release()

    answers = await asyncio.gather(first, second)
    assert [answer.body.get("reused") for answer in answers] == [False, True]
    assert made("create_dispatch", a, b) == 1
    assert len(world.dispatches("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_a_ttl_fires_once(a: Replica, b: Replica, world: World, server: FakeServer) -> None:
    await a.app.dispatch()
    server.join("room")
    await a.app.advance(6)
    server.leave("room")
    await a.app.settle()
    world.clock.advance(300)

    await both_sweep(a, b)

    assert made("delete_dispatch", a, b) == 1
    assert world.agents("room") == []
    assert [row["end_reason"] for row in world.rows("dispatches")] == ["expired"]
    assert [row["to_state"] for row in world.rows("history")].count("ended") == 1


@pytest.mark.usefixtures("worker")
async def test_a_person_seen_by_one_replica_stops_the_others_ttl(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    """The timer of `b` is as old as the dispatch; the row is newer."""
    await b.app.dispatch()
    await b.app.advance(6)
    world.clock.advance(200)
    server.join("room")
    await a.app.settle()
    world.clock.advance(200)

    await both_sweep(a, b)

    assert len(world.agents("room")) == 1
    assert await b.app.state() == "active"


# Deaths


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("acted", [False, True])
async def test_a_creation_that_dies_with_its_replica_is_finished_by_the_other(
    a: Replica, b: Replica, world: World, *, acted: bool
) -> None:
    a.livekit.faults.script("create_dispatch", Death(a, acted))
    assert (await a.app.dispatch()).status == 503
    assert [row["state"] for row in world.rows("dispatches")] == ["creating"]

    for _ in range(3):
        await b.app.pass_time(60)

    assert len(world.agents("room")) == len(world.dispatches("room")) == 1
    assert made("create_dispatch", a, b) == 2 - acted
    assert (await b.app.dispatch()).body["reused"] is True


@pytest.mark.usefixtures("worker")
async def test_a_dead_replicas_creation_is_finished_once_by_call_or_round(
    a: Replica, b: Replica, world: World, start_replica: StartReplica
) -> None:
    a.livekit.faults.script("create_dispatch", Death(a, acted=False))
    assert (await a.app.dispatch()).status == 503
    c = await start_replica()
    world.clock.advance(LEASE_S)
    # The call has read LiveKit, and is about to act.
    stuck = b.livekit.faults.hang("create_dispatch")
    call = asyncio.create_task(b.app.dispatch())
    await stuck.reached.wait()

    await sweep_beside_a_call(c)
    stuck.release()
    answer = await call
    await c.app.advance(6)

    assert made("create_dispatch", b, c) == 1
    assert world.dispatches("room") == [answer.body["dispatchId"]]
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_a_creation_slower_than_its_lease_is_removed_again(
    a: Replica, b: Replica, world: World
) -> None:
    stuck = a.livekit.faults.hang("create_dispatch")
    call = asyncio.create_task(a.app.dispatch())
    await stuck.reached.wait()
    world.clock.advance(LEASE_S)
    await sweep_beside_a_call(b)
    (kept,) = world.dispatches("room")

    stuck.release()
    answer = await call
    await b.app.advance(6)

    assert made("create_dispatch", a, b) == 2
    assert answer.body["dispatchId"] == kept
    assert world.dispatches("room") == [kept]
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("acted", [False, True])
async def test_a_removal_that_dies_with_its_replica_is_finished_by_the_other(
    a: Replica, b: Replica, world: World, *, acted: bool
) -> None:
    await a.app.dispatch()
    await a.app.advance(6)
    a.livekit.faults.script("delete_dispatch", Death(a, acted))
    await a.app.pass_time(300)
    assert [row["state"] for row in world.rows("dispatches")] == ["ending"]

    for _ in range(3):
        await b.app.pass_time(60)

    assert world.agents("room") == []
    assert [row["state"] for row in world.rows("dispatches")] == ["ended"]


@pytest.mark.usefixtures("worker")
async def test_a_ttl_whose_timer_died_is_acted_on_by_the_other(a: Replica, b: Replica, world: World) -> None:
    """`b` has never received anything about this room, so it has no timer for it."""
    await a.app.dispatch()
    await a.app.advance(6)
    a.die()

    await b.app.pass_time(300)

    assert world.agents("room") == []
    assert await b.app.state() == "none"


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_dies_after_its_replica_is_replaced_by_the_other(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    worker = server.start_worker("agent")
    server.join("room")
    await a.app.dispatch()
    await a.app.advance(6)
    a.die()
    server.kill(worker)

    await b.app.advance(30)
    await b.app.pass_time(60)

    assert len(world.agents("room")) == 1
    assert await b.app.state() == "active"


# Holds


async def hold(replica: Replica) -> Answer:
    """Of the room's one dispatch that has not ended."""
    [row] = [row for row in replica.world.rows("dispatches") if row["state"] != "ended"]
    return await replica.app.call("POST", f"{AGENTS}/{row['id']}/hold")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("foreign", [False, True], ids=["its own", "a foreign one"])
async def test_a_call_that_inspected_before_another_replicas_hold_obeys_it(
    a: Replica, b: Replica, world: World, server: FakeServer, *, foreign: bool
) -> None:
    server.join("room")
    if foreign:
        server.create_dispatch("room", AGENT)
        world.clock.advance(1)
        world.post.take()
    else:
        await a.app.dispatch()
        await a.app.advance(6)
    asking = a.livekit.faults.hang("probe", acted=True)
    call = asyncio.create_task(a.app.dispatch())
    await asking.reached.wait()
    await b.app.dispatch()
    assert (await hold(b)).body["state"] == "on_hold"
    asking.release()

    answer = await call

    assert (answer.status, answer.body["state"], answer.body["reused"]) == (200, "on_hold", False)
    await b.app.advance(6)
    assert world.agents("room") == []
    assert await a.app.state() == "on_hold"


@pytest.mark.usefixtures("worker")
async def test_what_a_replica_creates_during_another_ones_hold_is_deleted(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    server.join("room")
    stuck = a.livekit.faults.hang("create_dispatch")
    call = asyncio.create_task(a.app.dispatch())
    await stuck.reached.wait()
    assert (await hold(b)).body["state"] == "on_hold"
    stuck.release()

    answer = await call

    assert (answer.status, answer.body["retryable"]) == (503, True)
    await b.app.advance(6)
    assert world.dispatches("room") == []
    assert world.agents("room") == []
    assert (await a.app.dispatch()).body["state"] == "on_hold"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("acted", [False, True])
async def test_a_hold_that_dies_with_its_replica_is_carried_out_by_the_other(
    a: Replica, b: Replica, world: World, server: FakeServer, *, acted: bool
) -> None:
    server.join("room")
    await a.app.dispatch()
    await a.app.advance(6)
    a.livekit.faults.script("delete_dispatch", Death(a, acted))
    assert (await hold(a)).body["state"] == "on_hold"

    for _ in range(3):
        await b.app.pass_time(60)

    assert world.dispatches("room") == []
    assert world.agents("room") == []
    assert await b.app.state() == "on_hold"


@pytest.mark.usefixtures("worker")
async def test_two_replicas_that_resume_at_once_make_one_dispatch(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    server.join("room")
    await a.app.dispatch()
    await a.app.advance(6)
    await hold(a)
    await a.app.settle()
    before = made("create_dispatch", a, b)

    answers = await asyncio.gather(*(replica.app.dispatch(resume=True) for replica in (a, b) * 3))

    assert {answer.status for answer in answers} == {200}
    assert made("create_dispatch", a, b) == before + 1
    await b.app.advance(6)
    assert len(world.agents("room")) == 1


# Webhooks on both


async def test_the_first_events_of_a_room_come_to_both_at_once(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    """Such a room has no row yet that a replica could lock."""
    rooms = [f"room-{number}" for number in range(30)]
    for room in rooms:
        server.join(room, "alice")
        server.join(room, "bob")
    sent = world.post.take()
    half = {webhook.body: number % 2 for number, webhook in enumerate(sent)}

    answers = await asyncio.gather(*((a, b)[half[webhook.body]].app.deliver(webhook) for webhook in sent))

    assert [answer for answer in answers if answer.status != 200] == []
    assert {row["name"]: row["generation"] for row in world.rows("rooms")} == dict.fromkeys(rooms, 3)


async def test_a_webhook_sent_to_both_replicas_is_applied_once(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    for number in range(40):
        server.join(f"room-{number % 4}", f"person-{number}")
    sent = world.post.take()

    answers = await asyncio.gather(*(replica.app.deliver(webhook) for webhook in sent for replica in (a, b)))

    assert [answer for answer in answers if answer.status != 200] == []
    assert len(world.rows("webhook_events")) == len(sent)
    assert len(world.rows("participants")) == 40


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("seed", range(8))
async def test_counts_are_exact_with_webhooks_spread_over_replicas(
    a: Replica, b: Replica, world: World, server: FakeServer, seed: int
) -> None:
    """In any order, some to both, some twice, all at once."""
    chance = random.Random(seed)  # noqa: S311 - a test's
    for room in ("room", "other"):
        await chance.choice((a, b)).app.dispatch(room)
    await a.app.advance(1)
    people: dict[str, set[str]] = {"room": set(), "other": set()}
    for _ in range(40):
        room = chance.choice(list(people))
        name = f"person-{chance.randrange(6)}"
        if name in people[room]:
            server.leave(room, name)
            people[room].discard(name)
        else:
            server.join(room, name)
            people[room].add(name)
    ways: list[tuple[Replica, SignedWebhook]] = []
    for webhook in world.post.take():
        ways += [(replica, webhook) for replica in chance.choice([(a,), (b,), (a, b), (b, b)])]
    chance.shuffle(ways)

    answers = await asyncio.gather(*(replica.app.deliver(webhook) for replica, webhook in ways))
    await a.app.settle()

    assert [answer for answer in answers if answer.status != 200] == []
    for room, names in people.items():
        status = await chance.choice((a, b)).app.status(room)
        assert status["participantCount"] == len(names)
        assert status["state"] == ("active" if names else "idle")
        assert (status["ttlExpiresAt"] is None) is bool(names)


# Rounds


async def test_only_one_replica_reconciles_at_a_time(a: Replica, b: Replica) -> None:
    stuck = a.livekit.faults.hang("list_rooms")
    sweeping = asyncio.create_task(a.app.service.sweeper.sweep())
    await stuck.reached.wait()
    before = b.livekit.count("list_rooms")

    await b.app.sweep()
    assert b.livekit.count("list_rooms") == before

    stuck.release()
    await sweeping
    await b.app.sweep()
    assert b.livekit.count("list_rooms") > before


@pytest.mark.usefixtures("worker")
async def test_deadlines_do_not_wait_for_another_replicas_round(a: Replica, b: Replica, world: World) -> None:
    await b.app.dispatch()
    await b.app.advance(6)
    stuck = a.livekit.faults.hang("list_rooms")
    sweeping = asyncio.create_task(a.app.service.sweeper.sweep())
    await stuck.reached.wait()

    await b.app.pass_time(300)

    assert world.agents("room") == []
    stuck.release()
    await sweeping


async def test_only_one_replica_probes_at_a_time(
    a: Replica, b: Replica, world: World, server: FakeServer
) -> None:
    server.start_worker("agent")
    server.join("room")
    await a.app.dispatch()
    await a.app.advance(6)
    stuck = a.livekit.faults.hang("probe")
    probing = asyncio.create_task(a.app.service.liveness.probe_all())
    await stuck.reached.wait()
    before = b.livekit.count("probe")

    await b.app.service.liveness.probe_all()

    assert b.livekit.count("probe") == before
    stuck.release()
    await probing
    assert len(world.agents("room")) == 1


async def test_a_replica_becomes_ready_while_another_reconciles(
    a: Replica, start_replica: StartReplica
) -> None:
    stuck = a.livekit.faults.hang("list_rooms")
    sweeping = asyncio.create_task(a.app.service.sweeper.sweep())
    await stuck.reached.wait()

    late = await start_replica()

    assert (await late.app.call("GET", "/readyz")).status == 200
    stuck.release()
    await sweeping


async def test_replicas_learn_the_same_ttl_from_returns_to_either(
    start_replica: StartReplica, world: World, server: FakeServer
) -> None:
    """Both add to the same counts at once; a commit of one must not lose those of the other."""
    server.start_worker(AGENT)
    auto = AgentPolicy(ttl_s=300, join_timeout_s=15, learned=LearnedTtl(ttl_min_s=10, ttl_max_s=900))
    a, b = await start_replica(agents={AGENT: auto}), await start_replica(agents={AGENT: auto})
    rooms = [f"room-{number}" for number in range(12)]
    answers = await asyncio.gather(*(a.app.dispatch(room) for room in rooms))
    assert {answer.status for answer in answers} == {200}
    await a.app.advance(1)
    for _ in range(3):
        for room in rooms:
            server.join(room)
        sent = world.post.take()
        await asyncio.gather(*((a, b)[number % 2].app.deliver(one) for number, one in enumerate(sent)))
        for room in rooms:
            server.leave(room)
        await a.app.settle()
        await a.app.advance(40)

    await both_sweep(a, b)

    assert sum(row["kept"] for row in world.rows("returns")) == 2 * len(rooms)
    ttls_us = {one.app.service.policies.lifecycle.agents[AGENT].ttl_us for one in (a, b)}
    assert ttls_us == {45_254_833}
    assert a.app.service.learning.ttls()[0].kept == 2 * len(rooms)
