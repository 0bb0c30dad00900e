"""At most so many agents: who is refused, who waits, and what counts as an agent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from app.config.agents import AgentPolicy
from app.lifecycle import Restart
from app.lifecycle.mode import Mode
from app.state.capacity import Claim, Limits
from fakes.faults import Hang
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    API_KEY,
    BOUND_S,
    DISPATCH,
    ON_BOTH,
    ON_POSTGRES,
    OTHER_AGENT,
    TOKEN,
    Answer,
    App,
    World,
    member_token,
    until,
)
from integration.replicas import LEASE_S, Death, Replica, StartReplica
from integration.sockets import connected

pytestmark = pytest.mark.usefixtures("worker")

#: Longer than any test waits.
LONG_S = 30


def limited(world: World, **limits: Any) -> dict[str, Any]:
    """The settings of a service whose agent has these limits."""
    return {"agents": {AGENT: policy(world, **limits)}}


def policy(world: World, **limits: Any) -> AgentPolicy:
    return replace(world.config.default_policy, **limits)


async def ask_as(app: App, identity: str, room: str, **fields: Any) -> Answer:
    """As a participant of the room."""
    body = {"roomName": room, **fields}
    return await app.call("POST", DISPATCH, json_body=body, auth=member_token(room, identity))


def rooms_with_agents(world: World) -> set[str]:
    return {name for name, room in world.livekit.server.rooms.items() if room.dispatches}


def refused(answer: Answer) -> bool:
    return (answer.status, answer.code, answer.body.get("retryable")) == (429, "at_capacity", True)


@asynccontextmanager
async def waiting(app: App, world: World, room: str, wait_s: float = LONG_S) -> AsyncIterator[Any]:
    """A call that waits in the queue from here on."""
    before = len(world.rows("claims"))
    call = asyncio.create_task(app.dispatch(room, waitS=wait_s))
    try:
        await until(lambda: len(world.rows("claims")) > before or call.done())
        yield call
    finally:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def answer_of(call: Any) -> Answer:
    async with asyncio.timeout(BOUND_S):
        answer: Answer = await call
        return answer


# The limits


@ON_BOTH
async def test_over_the_limit_nothing_is_made(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=2))
    assert [(await app.dispatch(f"room-{number}")).status for number in range(2)] == [200, 200]

    answer = await app.dispatch("one-too-many")

    assert refused(answer)
    assert int(answer.headers["Retry-After"]) > 0
    assert "queue" not in answer.body
    assert set(world.livekit.server.rooms) == {"room-0", "room-1"}
    assert len(world.rows("dispatches")) == 2
    assert world.rows("claims") == []
    status, _, text = await app.scrape()
    assert status == 200
    assert f'capacity_refusals_total{{agent="{AGENT}",cap="max_agents"}} 1.0' in text
    assert 'dispatch_requests_total{result="at_capacity"} 1.0' in text


@ON_BOTH
async def test_each_agent_name_has_its_own_places(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(OTHER_AGENT)
    app = await start_app(**limited(world, max_agents=1))
    assert (await app.dispatch("a")).status == 200

    assert (await app.dispatch("b", agentName=OTHER_AGENT)).status == 200
    assert refused(await app.dispatch("b"))


@ON_BOTH
async def test_a_caller_has_its_own_limit_over_all_rooms(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents_per_identity=1))
    assert (await ask_as(app, "alice", "a")).status == 200

    assert refused(await ask_as(app, "alice", "b"))
    assert (await ask_as(app, "bob", "b")).status == 200
    # A backend has no identity, and a room that has an agent needs no other.
    assert (await app.dispatch("c")).status == 200
    assert (await ask_as(app, "alice", "c")).body["reused"] is True
    await app.end("a")
    assert (await ask_as(app, "alice", "d")).status == 200
    stored = [row["requested_by"] for row in world.rows("dispatches")]
    assert "alice" not in stored
    assert {stored.count(one) for one in set(stored) - {None}} == {1, 2}


async def test_the_token_endpoint_counts_for_its_participant(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents_per_identity=1))

    async def token(room: str, identity: str) -> Answer:
        config = {"agents": [{"agent_name": AGENT}]}
        body = {"room_name": room, "participant_identity": identity, "room_config": config}
        return await app.call("POST", TOKEN, json_body=body)

    assert (await token("a", "alice")).status == 201
    assert refused(await token("b", "alice"))
    assert refused(await ask_as(app, "alice", "c"))
    assert (await token("b", "bob")).status == 201


async def test_a_token_without_a_place_for_all_its_agents_keeps_none(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(OTHER_AGENT)
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    config = {"agents": [{"agent_name": OTHER_AGENT}, {"agent_name": AGENT}]}

    answer = await app.call("POST", TOKEN, json_body={"room_name": "b", "room_config": config})

    assert refused(answer)
    await app.settle()
    assert rooms_with_agents(world) == {"a"}


async def test_a_mode_that_only_watches_refuses_nobody(start_app: StartApp, world: World) -> None:
    app = await start_app(mode=Mode.OBSERVE, **limited(world, max_agents=1))

    assert [(await app.dispatch(f"room-{number}")).status for number in range(2)] == [200, 200]


async def test_a_policy_with_a_lower_limit_ends_nothing_and_lets_nobody_in(
    start_app: StartApp, world: World
) -> None:
    app = await start_app(**limited(world, max_agents=3))
    for number in range(3):
        await app.dispatch(f"room-{number}")
    lower = {AGENT: policy(world, max_agents=2), OTHER_AGENT: policy(world)}

    app.service.policies.replace(lower)

    assert len(rooms_with_agents(world)) == 3
    await app.end("room-0")
    assert refused(await app.dispatch("another"))
    await app.end("room-1")
    assert (await app.dispatch("another")).status == 200


# What counts


@ON_BOTH
async def test_an_ending_agent_counts_until_it_is_gone(
    start_app: StartApp, world: World, livekit: FakeLiveKit
) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    await app.advance(6)
    stuck = livekit.faults.hang("delete_dispatch")
    ending = asyncio.create_task(app.end("a"))
    await stuck.reached.wait()

    assert refused(await app.dispatch("b"))

    stuck.release()
    await ending
    await app.settle()
    assert (await app.dispatch("b")).status == 200


@pytest.mark.parametrize("lost", ["agent", "dispatch"])
async def test_a_room_keeps_its_place_when_a_call_finds_its_agent_gone(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker, lost: str
) -> None:
    """Also if the agent has no successor, and others wait for the place."""
    app = await start_app(**limited(world, max_agents=1, restart=Restart.NEVER))
    await app.dispatch("a")
    async with waiting(app, world, "b", wait_s=1) as call:
        if lost == "agent":
            await app.advance(1)
            server.kill(worker)
        else:
            (dispatch_id,) = world.dispatches("a")
            server.delete_dispatch(server.rooms["a"], dispatch_id)

        answer = await app.dispatch("a")

        assert (answer.status, answer.body["reused"]) == (200, False)
        assert refused(await answer_of(call))
    assert rooms_with_agents(world) == {"a"}


@ON_BOTH
async def test_a_refresh_needs_no_place(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1, max_agents_per_identity=1))
    await ask_as(app, "alice", "a")
    await app.advance(6)

    assert [(await ask_as(app, who, "a")).body["reused"] for who in ("alice", "bob")] == [True, True]


async def test_a_call_that_fails_gives_its_place_back(
    start_app: StartApp, world: World, livekit: FakeLiveKit
) -> None:
    app = await start_app(**limited(world, max_agents=1))
    stuck = livekit.faults.hang("ensure_room")
    first = asyncio.create_task(app.dispatch("a"))
    await stuck.reached.wait()
    assert [row["granted_at"] for row in world.rows("claims")] != [None]
    assert refused(await app.dispatch("b"))
    world.database_faults.down = True
    stuck.release()
    assert (await first).status == 503
    world.database_faults.down = False

    # Even its release was lost: the place is free once the claim expires.
    assert refused(await app.dispatch("b"))
    await app.advance(LEASE_S)
    assert (await app.dispatch("b")).status == 200


# Waiting


@ON_BOTH
async def test_a_call_waits_until_there_is_a_place(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    async with waiting(app, world, "b") as call:
        status, _, text = await app.scrape()
        assert "agent_lifecycle_capacity_waiting 1.0" in text, status
        world.clock.advance(2)
        await app.end("a")
        answer = await answer_of(call)

    assert answer.status == 200
    assert answer.body["queue"] == {"position": 1, "waitedMs": 2_000}
    assert rooms_with_agents(world) == {"b"}
    assert world.rows("claims") == []


@ON_BOTH
async def test_a_call_that_waits_in_vain_gets_429_with_its_position(
    start_app: StartApp, world: World
) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    async with waiting(app, world, "b"):
        world.clock.advance(0.001)
        answer = await app.dispatch("c", waitS=2)
        assert refused(answer)
        assert answer.body["queue"]["position"] == 2
        assert [row["room_name"] for row in world.rows("claims")] == ["b"]

    assert int(answer.headers["Retry-After"]) > 0
    assert rooms_with_agents(world) == {"a"}


async def test_a_call_with_a_place_says_that_it_did_not_wait(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))

    answer = await app.dispatch("a", waitS=LONG_S)

    assert (answer.status, answer.body["queue"]) == (200, None)


@pytest.mark.parametrize("wait_s", [-1, 30.5, "5"])
async def test_only_so_long_a_wait_is_accepted(app: App, wait_s: object) -> None:
    answer = await app.dispatch(waitS=wait_s)

    assert (answer.status, answer.code) == (422, "invalid")
    assert "waitS" in answer.body["message"]


async def test_who_does_not_wait_does_not_overtake(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    # One that waits in a process that does not look at once.
    async with waiting(app, world, "b") as call:
        await app.service.call_queue.close()
        world.clock.advance(0.001)
        await app.end("a")
        assert refused(await app.dispatch("c"))
        app.service.call_queue.start()
        assert (await answer_of(call)).status == 200

    assert rooms_with_agents(world) == {"b"}


async def test_a_room_that_gets_an_agent_otherwise_waits_no_longer(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    async with waiting(app, world, "b") as call:
        server.create_dispatch("b", AGENT)
        await app.advance(1)
        await app.service.reconciler.inspect("b")
        answer = await answer_of(call)

    assert (answer.status, answer.body["reused"]) == (200, True)
    assert len(world.agents("b")) == 1


@ON_BOTH
async def test_a_caller_who_hangs_up_is_forgotten(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    body = json.dumps({"roomName": "b", "waitS": LONG_S}).encode()
    head = f"POST {DISPATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
    async with connected(app.port) as client:
        client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await until(lambda: world.rows("claims"))

    await until(lambda: not world.rows("claims"))
    await app.end("a")
    await app.settle()
    assert rooms_with_agents(world) == set()
    assert (await app.dispatch("c")).status == 200


async def test_a_stop_tells_those_who_wait_at_once(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    async with waiting(app, world, "b") as call:
        stopping = asyncio.create_task(app.stop())
        answer = await answer_of(call)
        await stopping

    assert (answer.status, answer.code) == (503, "busy")
    assert world.rows("claims") == []


async def test_the_queue_outlives_a_failure_of_the_database(start_app: StartApp, world: World) -> None:
    app = await start_app(**limited(world, max_agents=1))
    await app.dispatch("a")
    async with waiting(app, world, "b") as call:
        world.database_faults.down = True
        # Another replica would have forgotten it by now.
        world.database.execute("DELETE FROM claims")
        world.clock.advance(LEASE_S)
        world.database_faults.down = False
        await until(lambda: world.rows("claims"))
        await app.end("a")
        assert (await answer_of(call)).status == 200


# Replicas


@ON_POSTGRES
async def test_twenty_calls_at_once_over_two_replicas_make_five_agents(
    start_replica: StartReplica, world: World
) -> None:
    limits = limited(world, max_agents=5)
    replicas = [await start_replica(**limits) for _ in range(2)]

    answers = await asyncio.gather(
        *(replicas[number % 2].app.dispatch(f"room-{number}") for number in range(20))
    )

    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 15
    assert all(refused(answer) for answer in answers if answer.status == 429)
    granted = {f"room-{number}" for number, answer in enumerate(answers) if answer.status == 200}
    assert rooms_with_agents(world) == set(world.livekit.server.rooms) == granted
    assert world.rows("claims") == []


@ON_POSTGRES
async def test_claims_of_many_connections_at_once_stay_within_the_limit(
    start_replica: StartReplica, world: World
) -> None:
    replicas = [await start_replica() for _ in range(2)]
    now, limits = world.clock.now(), Limits(max_agents=5)
    claims = [
        Claim(id=f"{number}", agent_name=AGENT, room_name=f"{number}", requested_by=None, asked_at=now)
        for number in range(20)
    ]

    found = await asyncio.gather(
        *(
            replicas[number % 2].app.service.store.claims.take(claim, limits, now)
            for number, claim in enumerate(claims)
        )
    )

    assert [standing.blocked_by for standing in found].count(None) == 5
    assert len(world.rows("claims")) == 5


@ON_POSTGRES
async def test_the_queue_is_served_in_order_over_replicas(start_replica: StartReplica, world: World) -> None:
    a, b = [await start_replica(**limited(world, max_agents=1)) for _ in range(2)]
    await a.app.dispatch("room-0")
    calls = []
    for number in range(1, 7):
        # Neither by the id nor by the process.
        world.clock.advance(0.001)
        replica = (a, b, b)[number % 3]
        calls.append(asyncio.create_task(replica.app.dispatch(f"room-{number}", waitS=LONG_S)))
        await until(lambda: len(world.rows("claims")) == len(calls))
        await until(lambda: len(a.app.service.call_queue) + len(b.app.service.call_queue) == len(calls))

    for number, call in enumerate(calls, 1):
        assert not any(one.done() for one in calls[number - 1 :])
        await (a, b)[number % 2].app.end(f"room-{number - 1}")
        answer = await answer_of(call)
        assert (answer.status, answer.body["queue"]["position"]) == (200, number)
        assert rooms_with_agents(world) == {f"room-{number}"}


@ON_POSTGRES
async def test_a_dead_process_holds_up_the_queue_only_for_a_while(
    start_replica: StartReplica, world: World
) -> None:
    a, b = [await start_replica(**limited(world, max_agents=1)) for _ in range(2)]
    await a.app.dispatch("room-0")
    # Calls of the same microsecond have no order.
    async with waiting(a.app, world, "of-the-dead"):
        world.clock.advance(0.001)
        async with waiting(b.app, world, "room-1") as call:
            a.die()
            await b.app.end("room-0")
            world.clock.advance(0.001)
            assert refused(await b.app.dispatch("room-2"))
            assert not call.done()
            world.clock.advance(LEASE_S)
            answer = await answer_of(call)

    assert answer.status == 200
    assert rooms_with_agents(world) == {"room-1"}


@ON_POSTGRES
async def test_the_claim_of_a_dead_process_expires(start_replica: StartReplica, world: World) -> None:
    a, b = [await start_replica(**limited(world, max_agents=1)) for _ in range(2)]
    a.livekit.faults.script("ensure_room", Death(a, acted=False))
    assert (await a.app.dispatch("of-the-dead")).status == 503

    assert refused(await b.app.dispatch("room"))
    world.clock.advance(LEASE_S)
    assert (await b.app.dispatch("room")).status == 200


@ON_POSTGRES
async def test_a_process_that_was_asleep_does_not_make_an_agent_too_many(
    start_replica: StartReplica, world: World
) -> None:
    """Its claim has expired, and another has the place: that is seen where the dispatch is stored."""
    a, b = [await start_replica(**limited(world, max_agents=1)) for _ in range(2)]
    asleep = Hang(acted=True)
    a.livekit.faults.script("ensure_room", asleep)
    first = asyncio.create_task(a.app.dispatch("a"))
    await asleep.reached.wait()
    world.clock.advance(LEASE_S)
    assert (await b.app.dispatch("b")).status == 200
    asleep.release()

    assert refused(await first)
    assert rooms_with_agents(world) == {"b"}


@ON_POSTGRES
async def test_a_place_passes_from_claim_to_dispatch_in_one_step(
    start_replica: StartReplica, world: World
) -> None:
    """However calls and ends meet, there are never more than the limit."""
    a, b = [await start_replica(**limited(world, max_agents=3)) for _ in range(2)]

    async def come_and_go(replica: Replica, number: int) -> int:
        answer = await replica.app.dispatch(f"room-{number}", waitS=LONG_S)
        assert answer.status == 200, answer
        now = len(rooms_with_agents(world))
        await replica.app.end(f"room-{number}")
        return now

    async with asyncio.timeout(BOUND_S):
        seen = await asyncio.gather(*(come_and_go((a, b)[number % 2], number) for number in range(12)))

    assert max(seen) <= 3
    assert world.rows("claims") == []
