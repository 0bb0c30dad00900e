"""The main job on the real thing: LiveKit, workers, people, and the service as a process."""

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime

import pytest
from livekit import api

from devstack.callers import Answer, Caller
from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind

pytestmark = pytest.mark.real


def has_passed(time_text: str) -> bool:
    return datetime.now(UTC) >= datetime.fromisoformat(time_text)


async def wait_for_state(caller: Caller, room: str, state: str, *, timeout_s: float = 20) -> None:
    async def reached() -> bool:
        return bool((await caller.status(room))["state"] == state)

    await eventually(reached, f"state {state}", timeout_s=timeout_s)


async def ask_in_new_visit(join_room: JoinRoom, room: str, text: str) -> str:
    person = await join_room(room)
    await person.wait_for_agents(1)
    answer = await person.ask(text)
    await person.leave()
    return answer


# Refreshes


async def test_five_refreshes_keep_one_agent_and_one_conversation(
    reusable_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    answers, reused = [], []
    for turn in range(1, 7):
        reused.append((await caller.request_agent(truth.name)).body["reused"])
        answers.append(await ask_in_new_visit(join_room, truth.name, f"question {turn}"))
    assert reused == [False, True, True, True, True, True]
    assert answers == [f"turn {turn}: question {turn}" for turn in range(1, 7)]
    assert await truth.has_one_agent()


async def test_a_default_agent_is_replaced_at_every_refresh_and_answers(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    for _ in range(6):
        assert (await caller.request_agent(truth.name)).status == 200
        assert await ask_in_new_visit(join_room, truth.name, "hello") == "turn 1: hello"
    await eventually(truth.has_one_agent, "one agent and one dispatch are left")


async def test_a_deaf_agent_is_not_granted_again(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    """It stays in the room, active and listening, with its session closed for good."""
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    first = await caller.request_agent(truth.name)
    await ask_in_new_visit(join_room, truth.name, "hello")
    await wait_for_state(caller, truth.name, "idle")
    assert len(await truth.agents()) == 1

    second = await caller.request_agent(truth.name)

    assert second.body["reused"] is False
    assert second.body["dispatchId"] != first.body["dispatchId"]
    assert await ask_in_new_visit(join_room, truth.name, "again") == "turn 1: again"


# The TTL


async def test_coming_back_within_the_ttl_finds_the_same_agent_and_resets_the_ttl(
    reusable_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="30")
    caller = await call(service)
    first = await caller.request_agent(truth.name)
    assert await ask_in_new_visit(join_room, truth.name, "one") == "turn 1: one"
    await wait_for_state(caller, truth.name, "idle")
    first_deadline = (await caller.status(truth.name))["ttlExpiresAt"]

    second = await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await wait_for_state(caller, truth.name, "active")
    assert (await caller.status(truth.name))["ttlExpiresAt"] is None
    assert await person.ask("two") == "turn 2: two"
    await person.leave()
    await wait_for_state(caller, truth.name, "idle")

    assert second.body["reused"] is True
    assert second.body["dispatchId"] == first.body["dispatchId"]
    assert (await caller.status(truth.name))["ttlExpiresAt"] > first_deadline


async def test_staying_away_ends_the_agent_after_the_ttl_and_not_before_it(
    reusable_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="4")
    caller = await call(service)
    await caller.request_agent(truth.name)
    await ask_in_new_visit(join_room, truth.name, "hello")
    await wait_for_state(caller, truth.name, "idle")
    deadline = (await caller.status(truth.name))["ttlExpiresAt"]

    await eventually(truth.has_none, "agent and dispatch are gone from LiveKit")

    assert has_passed(deadline)
    await wait_for_state(caller, truth.name, "none")
    assert await caller.status(truth.name) == {"hasAgent": False, "state": "none"}
    [ended] = [a for a in await caller.agents(state="ended") if a["roomName"] == truth.name]
    assert ended["endReason"] == "expired"


async def test_the_room_outlives_the_ttl(
    reusable_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    """LiveKit closes a room 20 s after its last person, agent and all, unless it was made otherwise."""
    service = await start_service(agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="300")
    await (await call(service)).request_agent(truth.name)
    room = await truth.room()
    assert room is not None
    assert room.departure_timeout > 300
    assert room.empty_timeout > 300


async def test_an_agent_stays_with_somebody_and_expires_where_nobody_ever_joined(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    livekit_api: api.LiveKitAPI,
) -> None:
    service = await start_service(
        agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="2", CLEANUP_INTERVAL_MS="500"
    )
    caller = await call(service)
    lonely = RoomTruth(livekit_api, f"{truth.name}-lonely")
    # In before the call, so that no TTL runs until LiveKit tells of the join.
    person = await join_room(truth.name)
    await caller.request_agent(truth.name)
    await person.wait_for_agents(1)
    for _ in range(3):
        # Each round is a whole TTL and sweep, seen from the room in which nobody stays.
        await caller.request_agent(lonely.name)
        await eventually(lonely.has_none, "the agent that nobody joined is gone")
    assert await truth.has_one_agent()
    assert await person.ask("still there?") == "turn 1: still there?"
    await lonely.delete()


# Many callers


async def test_fifty_calls_at_once_bring_one_agent(
    reusable_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    answers = await asyncio.gather(*(caller.request_agent(truth.name) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["dispatchId"] for answer in answers}) == 1
    assert [answer.body["reused"] for answer in answers].count(False) == 1
    await eventually(truth.has_one_agent, "one agent and one dispatch")


async def test_three_people_who_call_at_once_share_one_agent_that_answers_each(
    reusable_worker: Worker,
    livekit_server: LiveKitServer,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name)

    async def visit(identity: str) -> tuple[Answer, Person]:
        async with Caller(service.base_url, member_token(livekit_server, truth.name, identity)) as caller:
            granted = await caller.request_agent(truth.name)
        return granted, await join_room(truth.name, identity)

    visits = await asyncio.gather(*(visit(identity) for identity in ("alice", "bob", "carol")))
    assert [granted.body["reused"] for granted, _ in visits].count(False) == 1
    for turn, (_, person) in enumerate(visits, start=1):
        await person.wait_for_agents(1)
        assert await person.ask(f"hello from {turn}") == f"turn {turn}: hello from {turn}"
    assert await truth.has_one_agent()


# Restarts


async def test_a_deadline_survives_a_restart(
    reusable_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="15")
    caller = await call(service)
    await caller.request_agent(truth.name)
    await wait_for_state(caller, truth.name, "idle")
    before = await caller.status(truth.name)

    assert await asyncio.to_thread(service.stop) == 0
    await asyncio.to_thread(service.start)

    assert (await caller.status(truth.name))["ttlExpiresAt"] == before["ttlExpiresAt"]
    await eventually(truth.has_none, "the agent is gone", timeout_s=40)
    assert has_passed(before["ttlExpiresAt"])


async def test_a_deadline_that_passed_while_the_service_was_down_is_acted_on_at_once(
    reusable_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, AGENT_TTL_SECONDS="8")
    caller = await call(service)
    await caller.request_agent(truth.name)
    await wait_for_state(caller, truth.name, "idle")
    deadline = (await caller.status(truth.name))["ttlExpiresAt"]
    await asyncio.to_thread(service.kill)

    async def overdue() -> bool:
        return has_passed(deadline)

    await eventually(overdue, "the deadline has passed")
    assert await truth.has_one_agent()
    await asyncio.to_thread(service.start)
    # The interval of the sweep is a minute: only the restored timer can be this early.
    await eventually(truth.has_none, "the agent is gone", timeout_s=30)


async def test_kills_in_a_storm_of_dispatches_leave_no_duplicate_and_nothing_unknown(
    reusable_worker: Worker, start_service: StartService, call: Call, livekit_api: api.LiveKitAPI
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, CLEANUP_INTERVAL_MS="1000")
    caller = await call(service)
    prefix = f"storm-{uuid.uuid4().hex[:8]}"
    rooms = [RoomTruth(livekit_api, f"{prefix}-{number}") for number in range(6)]
    dice = random.Random(20261123)  # noqa: S311 - a seed, so that a failure can be seen again

    async def storm() -> None:
        while True:
            try:
                await caller.request_agent(dice.choice(rooms).name)
            except OSError:
                await asyncio.sleep(0.02)

    for _ in range(4):
        storms = [asyncio.create_task(storm()) for _ in range(4)]
        await asyncio.sleep(dice.uniform(0.05, 0.6))
        await asyncio.to_thread(service.kill)
        for task in storms:
            task.cancel()
        await asyncio.gather(*storms, return_exceptions=True)
        await asyncio.to_thread(service.start)

    async def agreed() -> bool:
        live = [agent for agent in await caller.agents() if agent["state"] not in ("ending", "creating")]
        known = {agent["roomName"]: [agent["dispatchId"]] for agent in live}
        listed = {room.name: await room.dispatches() for room in rooms}
        agents = [await room.agents() for room in rooms]
        return known == {room: ids for room, ids in listed.items() if ids} and all(
            len(here) <= 1 for here in agents
        )

    # A call would remove what it finds too much of: this is what the kills have left.
    await eventually(agreed, "no duplicate, and nothing that is not known", timeout_s=40)
    answers = await asyncio.gather(*(caller.request_agent(room.name) for room in rooms))
    assert {answer.status for answer in answers} == {200}

    async def served() -> bool:
        return await agreed() and all([await room.has_one_agent() for room in rooms])

    await eventually(served, "one agent in each room, and each of them known", timeout_s=40)
    for room in rooms:
        await room.delete()


# What breaks


async def test_a_frozen_worker_is_replaced(
    start_worker: StartWorker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    name = f"frozen-{uuid.uuid4().hex[:6]}"
    frozen = await start_worker(name, kind=WorkerKind.REUSABLE)
    caller = await call(await start_service(agent_name=name, AGENT_JOIN_TIMEOUT_SECONDS="10"))
    first = await caller.request_agent(truth.name)
    assert await ask_in_new_visit(join_room, truth.name, "hello") == "turn 1: hello"
    frozen.freeze()
    await start_worker(name, kind=WorkerKind.REUSABLE)

    second = await caller.request_agent(truth.name)

    assert second.status == 200, second.body
    assert second.body["reused"] is False
    assert second.body["dispatchId"] != first.body["dispatchId"]
    person = await join_room(truth.name)
    # The frozen worker is still registered and may be given the job again: the watchdog sees to that.
    await person.wait_for_agents(1, timeout_s=90)
    assert await person.ask("hello") == "turn 1: hello"


async def test_livekit_being_away_is_said_and_survived(
    livekit_server: LiveKitServer,
    reusable_worker: Worker,
    start_service: StartService,
    truth: RoomTruth,
    call: Call,
) -> None:
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    await asyncio.to_thread(livekit_server.stop)
    try:
        started_at = time.monotonic()
        refused = await caller.request_agent(truth.name)
        assert refused.status == 503
        assert refused.body["retryable"] is True
        assert refused.body["code"] == "livekit_unavailable"
        assert "Retry-After" in refused.headers
        assert time.monotonic() - started_at < 10  # the issue's own bound, not a measurement
        assert await caller.agents() == []
        assert (await caller.call("GET", "/readyz")).status == 200
    finally:
        await asyncio.to_thread(livekit_server.start)

    async def granted() -> bool:
        return (await caller.request_agent(truth.name)).status == 200

    await eventually(granted, "an agent is granted again")
    # Workers register again by themselves about 10 s after LiveKit is back.
    await eventually(truth.has_one_agent, "the agent is in", timeout_s=60)


async def test_wrong_keys_are_named_at_start_and_in_readyz(start_service: StartService, call: Call) -> None:
    service = await start_service(ready=False, LIVEKIT_API_SECRET="not-the-secret-of-this-livekit-server")
    caller = await call(service)

    async def explained() -> bool:
        try:
            answer = await caller.call("GET", "/readyz")
        except OSError:
            return False
        return answer.status == 503 and "API key" in answer.body["livekit"]

    # The log comes after it, from a thread of its own.
    async def logged() -> bool:
        return "LIVEKIT_API_SECRET" in service.child.tail()

    await eventually(explained, "/readyz says why")
    await eventually(logged, "the log names the variable")
    assert "not-the-secret" not in service.child.tail()


# Ending it


async def test_end_takes_the_agent_from_people_and_none_comes_back(
    reusable_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name, CLEANUP_INTERVAL_MS="500")
    caller = await call(service)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)

    ended = await caller.end_agent(truth.name)

    assert ended.status == 200
    assert await truth.agents() == []
    await person.wait_for_agents(0)
    await eventually(truth.has_none, "LiveKit has dropped the dispatch")
    assert await caller.status(truth.name) == {"hasAgent": False, "state": "none"}
    assert (await caller.end_agent(truth.name)).status == 200
    assert (await caller.request_agent(truth.name)).body["reused"] is False
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"


async def test_the_token_endpoint_brings_exactly_one_agent(
    reusable_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    wanted = {
        "room_name": truth.name,
        "participant_identity": "alice",
        "room_config": {"agents": [{"agent_name": reusable_worker.agent_name}]},
    }
    for turn in range(1, 4):
        issued = await caller.call("POST", "/api/livekit/token", json=wanted)
        assert issued.status == 201
        async with await Person().join(issued.body["server_url"], issued.body["participant_token"]) as person:
            await person.wait_for_agents(1)
            assert await person.ask("hello") == f"turn {turn}: hello"
    assert await truth.has_one_agent()
