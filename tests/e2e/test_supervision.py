"""What the service does by itself on the real thing, when workers die and webhooks are lost."""

import asyncio
import uuid

import pytest
from livekit import api

from devstack.callers import Caller
from devstack.fixture_types import Call, Dispatch, JoinRoom, StartService, StartWorker
from devstack.people import Person
from devstack.relay import Mode, WebhookRelay
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind
from sizes import SIZES

pytestmark = pytest.mark.real

#: Quick to notice; the waits between dispatches are the defaults.
QUICK = {"LIVENESS_INTERVAL_SECONDS": "2", "CLEANUP_INTERVAL_MS": "2000"}


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


async def start_quick(start_service: StartService, agent_name: str, **env: str) -> Service:
    return await start_service(agent_name=agent_name, ready=True, **(QUICK | env))


async def visit(service_caller: Caller, join_room: JoinRoom, truth: RoomTruth) -> Person:
    await service_caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    return person


# Workers that die


@pytest.mark.parametrize("harm", ["kill", "freeze"])
async def test_an_answering_agent_is_back_without_a_call(
    harm: str,
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """LiveKit itself notices a killed worker after 20 s, a frozen one never, and replaces neither.

    With the intervals that are set when nobody sets any: the 45 s are promised with those.
    """
    victim = await start_worker(agent_name)
    caller = await call(await start_service(agent_name=agent_name))
    person = await visit(caller, join_room, truth)
    # Two, since a frozen worker goes on being given jobs: one in three then.
    await asyncio.gather(start_worker(agent_name), start_worker(agent_name))
    victim.kill() if harm == "kill" else victim.freeze()

    await person.ask_until_answered("anybody there?", timeout_s=45)

    await eventually(truth.has_one_agent, "one agent is left")


async def test_a_redeploy_of_the_workers_leaves_nobody_alone(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """SIGTERM, a drain, gone; the new version is up beside it."""
    old = await start_worker(agent_name, drain_timeout_s=1)
    caller = await call(await start_quick(start_service, agent_name))
    person = await visit(caller, join_room, truth)
    await start_worker(agent_name)
    old.drain()
    await asyncio.to_thread(old.child.wait, 30)

    await person.ask_until_answered("anybody there?", timeout_s=30)

    assert await truth.has_one_agent()


async def test_a_redeploy_of_plain_workers_cannot_be_told_from_agents_that_have_finished(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """Without the helper both leave in the same way, and LiveKit says no more of it.

    An agent that leaves within 10 s of joining has failed. LiveKit tells a leave in whole seconds.
    """
    old = await start_worker(agent_name, kind=WorkerKind.PLAIN, drain_timeout_s=12)
    caller = await call(await start_quick(start_service, agent_name))
    await visit(caller, join_room, truth)
    await start_worker(agent_name, kind=WorkerKind.PLAIN)
    old.drain()

    await eventually(lambda: _has_ended(caller, truth, "agent_left"), "ended because the agent left")
    assert (await caller.status(truth.name))["state"] == "none"


async def test_a_redeploy_of_plain_workers_leaves_nobody_alone_where_agents_are_always_restarted(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    old = await start_worker(agent_name, kind=WorkerKind.PLAIN, drain_timeout_s=1)
    caller = await call(await start_quick(start_service, agent_name, AGENT_RESTART="always"))
    person = await visit(caller, join_room, truth)
    await start_worker(agent_name, kind=WorkerKind.PLAIN)
    old.drain()
    await asyncio.to_thread(old.child.wait, 30)

    await person.ask_until_answered("anybody there?", timeout_s=30)

    assert await truth.has_one_agent()


async def test_a_person_who_comes_back_to_a_deaf_agent_and_makes_no_call_is_answered(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    person = await visit(caller, join_room, truth)
    await person.leave()

    again = await join_room(truth.name)

    await again.ask_until_answered("anybody there?", timeout_s=15)
    await eventually(truth.has_one_agent, "one agent is left")


async def test_no_worker_is_said_and_the_first_one_to_come_is_given_to_who_waits(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=agent_name, AGENT_JOIN_TIMEOUT_SECONDS="6")
    caller = await call(service)
    granted = await caller.request_agent(truth.name)
    assert (granted.status, granted.body["state"]) == (200, "starting")
    person = await join_room(truth.name)

    async def unavailable() -> bool:
        status = await caller.status(truth.name)
        return status["state"] == "unavailable" and status["hasAgent"] is False

    await eventually(unavailable, "state unavailable", timeout_s=45)

    async def said() -> bool:
        return "No worker provides an agent" in service.child.output()

    await eventually(said, "the log says why")
    await start_worker(agent_name)

    await person.ask_until_answered("anybody there?", timeout_s=30)

    await eventually(truth.has_one_agent, "one agent")


async def test_an_agent_that_has_finished_is_not_dispatched_again(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.OBEDIENT)
    caller = await call(await start_quick(start_service, agent_name))
    person = await visit(caller, join_room, truth)

    await person.say("/shutdown")
    await person.wait_for_agents(0)

    await eventually(lambda: _has_ended(caller, truth, "agent_left"), "ended because the agent left")
    assert (await caller.status(truth.name))["state"] == "none"
    assert await truth.agents() == []


async def _has_ended(caller: Caller, truth: RoomTruth, reason: str) -> bool:
    reasons = [a["endReason"] for a in await caller.agents(state="ended") if a["roomName"] == truth.name]
    return reasons == [reason]


# What nobody told us


async def test_after_a_time_without_webhooks_all_is_right_within_two_intervals(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    relay: WebhookRelay,
    truth: RoomTruth,
    call: Call,
    livekit_api: api.LiveKitAPI,
) -> None:
    """People come and go all the while. A TTL that nobody was seen to start runs from when it is noticed."""
    interval_s, ttl_s = 5, 5
    caller = await call(
        await start_service(
            agent_name=reusable_worker.agent_name,
            CLEANUP_INTERVAL_MS=str(interval_s * 1_000),
            AGENT_TTL_SECONDS=str(ttl_s),
        )
    )
    left, joined = truth, RoomTruth(livekit_api, f"{truth.name}-joined")
    leaver, stayer = await visit(caller, join_room, left), await visit(caller, join_room, joined)
    relay.mode = Mode.DROP
    until = asyncio.get_running_loop().time() + SIZES.without_webhooks_s
    visits = 0
    while asyncio.get_running_loop().time() < until:
        for room in (left, joined):
            guest = await join_room(room.name, f"guest-{visits}")
            await guest.wait_for_agents(1)
            await guest.ask("hello")
            await guest.leave()
            visits += 1
    second = await join_room(joined.name, "second")
    await leaver.leave()
    relay.mode = Mode.FORWARD

    async def right() -> bool:
        there, here = await caller.status(joined.name), await caller.status(left.name)
        seen = (there["state"], there.get("participantCount"), there.get("ttlExpiresAt"), here["state"])
        return seen == ("active", 2, None, "none")

    # What is noticed at the end of an interval has its TTL from then on; the rest is for LiveKit's calls.
    await eventually(right, "states, counts and TTLs are right", timeout_s=ttl_s + 2 * interval_s + 10)
    assert await left.has_none()
    for person in (stayer, second):
        await person.ask("still there?")
    assert len([e for e in relay.events(left.name) if e.event == "participant_left"]) >= visits // 2
    await joined.delete()


async def test_duplicates_made_behind_our_back_are_reduced_to_one_that_answers(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    dispatch: Dispatch,
    truth: RoomTruth,
    call: Call,
) -> None:
    caller = await call(await start_quick(start_service, reusable_worker.agent_name))
    person = await visit(caller, join_room, truth)
    never_alone = asyncio.create_task(_watch_for_a_moment_without_agent(truth))
    for _ in range(3):
        await dispatch(truth.name, reusable_worker.agent_name)

    await eventually(truth.has_one_agent, "one agent and one dispatch are left")

    never_alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never_alone
    assert await person.ask("still there?") == "turn 2: still there?"


async def _watch_for_a_moment_without_agent(truth: RoomTruth) -> None:
    while True:
        assert await truth.agents(), "a moment without an agent"
        await asyncio.sleep(0.02)


async def test_an_agent_that_another_tool_dispatched_is_adopted(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    dispatch: Dispatch,
    room_name: str,
    livekit_api: api.LiveKitAPI,
    call: Call,
) -> None:
    truth = RoomTruth(livekit_api, room_name)
    caller = await call(await start_quick(start_service, reusable_worker.agent_name, AGENT_TTL_SECONDS="4"))
    person = await join_room(room_name)
    made = await dispatch(room_name, reusable_worker.agent_name)
    await person.wait_for_agents(1)

    async def adopted() -> bool:
        status = await caller.status(room_name)
        return status.get("dispatchId") == made.id and status["state"] == "active"

    await eventually(adopted, "it is tracked")
    granted = await caller.request_agent(room_name)
    assert (granted.body["reused"], granted.body["dispatchId"]) == (True, made.id)
    await person.leave()
    await eventually(truth.has_none, "its TTL ends it, too")


async def is_ready(caller: Caller, room_name: str) -> bool:
    return bool((await caller.status(room_name))["ready"])


async def test_late_events_of_an_old_room_do_not_touch_the_new_one(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    relay: WebhookRelay,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name)
    caller = await call(service)
    person = await visit(caller, join_room, truth)
    relay.mode = Mode.DROP
    await truth.delete()
    await relay.wait_for(truth.name, "room_finished")
    late = [seen for seen in relay.events(truth.name) if seen.event in ("participant_left", "room_finished")]
    relay.mode = Mode.FORWARD
    assert late
    await person.leave()
    again = await join_room_anew(caller, join_room, truth)
    # Until the new agent has been seen to answer, its status changes by itself.
    await eventually(lambda: is_ready(caller, truth.name), "the new agent answers")
    before = await caller.status(truth.name)

    for seen in late:
        answer = await caller.call(
            "POST",
            "/api/livekit/webhook",
            data=seen.raw,
            headers={name: seen.headers[name] for name in ("Authorization", "Content-Type")},
        )
        assert answer.status == 200

    after = await caller.status(truth.name)
    assert after == before
    assert (after["state"], after["participantCount"]) == ("active", 1)
    assert await again.ask("still there?") == "turn 2: still there?"


async def join_room_anew(caller: Caller, join_room: JoinRoom, truth: RoomTruth) -> Person:
    person = await visit(caller, join_room, truth)

    async def active() -> bool:
        return bool((await caller.status(truth.name))["state"] == "active")

    await eventually(active, "the new room's agent is active")
    return person
