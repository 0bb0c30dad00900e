"""Ordinary deployments that are unlike this one, on the real thing: other rooms, agents, frontends."""

import asyncio
import json
import time
import uuid
from typing import Any

import aiohttp
import pytest
from livekit import api
from livekit.protocol.agent_dispatch import JobRestartPolicy

from app.config.settings import Keypair
from app.livekit.webhooks import sign
from devstack.callers import Caller
from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.livekit_server import LiveKitServer
from devstack.people import member_token
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import IDENTITY, TYPE, Worker, WorkerKind

pytestmark = pytest.mark.real

#: A node whose clock is wrong by ten minutes.
_AHEAD_S = 600


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


async def tell(server: LiveKitServer, service: Service, event: str, room: str, sid: str, **more: Any) -> None:
    """Post a webhook that is correctly signed, about another instance of the room than LiveKit has."""
    created_at = int(time.time()) + _AHEAD_S
    body = {
        "event": event,
        "id": f"EV_{uuid.uuid4().hex[:12]}",
        "createdAt": str(int(time.time())),
        "room": {
            "name": room,
            "sid": sid,
            "creationTime": str(created_at),
            "creationTimeMs": str(created_at * 1_000),
        },
        **more,
    }
    raw = json.dumps(body).encode()
    signature = sign(raw, Keypair(key=server.api_key, secret=server.api_secret))
    headers = {"Authorization": signature, "Content-Type": "application/webhook+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(service.webhook_url, data=raw, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def metric(service: Service, name: str) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.base_url}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def wait_for_state(caller: Caller, room: str, state: str, *, timeout_s: float = 20) -> None:
    async def reached() -> bool:
        return bool((await caller.status(room))["state"] == state)

    await eventually(reached, f"state {state}", timeout_s=timeout_s)


# LiveKit's present answer outranks any webhook


async def test_a_room_from_the_future_keeps_nobody_out(
    reusable_worker: Worker,
    livekit_server: LiveKitServer,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name)
    for event in ("room_started", "room_finished"):
        await tell(livekit_server, service, event, truth.name, "RM_elsewhere")
    person = await join_room(truth.name)
    caller = await call(service)

    assert (await caller.request_agent(truth.name)).status == 200
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    assert await truth.has_one_agent()
    await wait_for_state(caller, truth.name, "active")


@pytest.mark.parametrize("event", ["room_started", "room_finished", "participant_joined"])
async def test_a_second_livekit_takes_no_agent_from_its_people(
    event: str,
    reusable_worker: Worker,
    livekit_server: LiveKitServer,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name)
    caller = await call(service)
    first = await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"

    async def is_known() -> bool:
        status = await caller.status(truth.name)
        return (status["state"], status["participantCount"]) == ("active", 1)

    # A room of which the service knows nobody yet may be believed to have ended.
    await eventually(is_known, "the service knows who is in")
    stranger = {"participant": {"sid": "PA_elsewhere", "identity": "a stranger", "kind": "STANDARD"}}
    for _ in range(3):
        more = stranger if event == "participant_joined" else {}
        await tell(livekit_server, service, event, truth.name, "RM_elsewhere", **more)

    async def counted() -> bool:
        return await metric(service, "agent_lifecycle_room_conflicts_total") >= 3

    await eventually(counted, "the conflicts are counted")
    assert await person.ask("still there?") == "turn 2: still there?"
    assert (await caller.status(truth.name))["dispatchId"] == first.body["dispatchId"]
    assert (await caller.status(truth.name))["participantCount"] == 1
    assert service.child.tail(lines=1_000).count("contradicts LiveKit") == 1


# Only what really closed a session counts as closing it


async def test_a_guest_who_comes_and_goes_costs_nobody_an_agent(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    first = await caller.request_agent(truth.name)
    alice = await join_room(truth.name)
    await alice.wait_for_agents(1)
    assert await alice.ask("hello") == "turn 1: hello"
    # A guest within moments of the agent might be the one whom its session takes for its user.
    await asyncio.sleep(0.5)
    for _ in range(2):
        bob = await join_room(truth.name, "bob")
        await bob.wait_for_agents(1)
        await bob.leave()

    again = await caller.request_agent(truth.name)

    assert (again.body["reused"], again.body["dispatchId"]) == (True, first.body["dispatchId"])
    assert await alice.ask("still there?") == "turn 2: still there?"


async def test_the_user_of_a_session_takes_it_along_and_the_others_get_a_new_one(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    await caller.request_agent(truth.name)
    alice = await join_room(truth.name)
    await alice.wait_for_agents(1)
    assert await alice.ask("hello") == "turn 1: hello"
    bob = await join_room(truth.name, "bob")
    await alice.leave()

    async def answered() -> bool:
        try:
            return await bob.ask("and me?") == "turn 1: and me?"
        except TimeoutError:
            return False

    await eventually(answered, "Bob is answered", timeout_s=40)
    await eventually(truth.has_one_agent, "one agent is left")


async def test_when_all_leave_at_once_nothing_is_started_in_the_empty_room(
    plain_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    relay: WebhookRelay,
) -> None:
    service = await start_service(agent_name=plain_worker.agent_name)
    caller = await call(service)
    await caller.request_agent(truth.name)
    people = await asyncio.gather(*(join_room(truth.name, name) for name in ("alice", "bob", "carol")))
    await people[0].wait_for_agents(1)
    await wait_for_state(caller, truth.name, "active")
    await asyncio.gather(*(person.leave() for person in people))
    await relay.wait_for(truth.name, "participant_left", count=3)
    await wait_for_state(caller, truth.name, "idle")

    # What a check orders takes no longer than a probe.
    await asyncio.sleep(4)
    assert await metric(service, "agent_lifecycle_dispatches_created_total") == 1
    assert await truth.has_one_agent()


async def test_four_calls_before_anybody_has_joined_start_one_agent(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    answers = []
    for _ in range(4):
        answers.append(await caller.request_agent(truth.name))
        await asyncio.sleep(1.5)
    assert len({answer.body["dispatchId"] for answer in answers}) == 1
    assert await truth.has_one_agent()
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"


# What an agent was told goes with it


async def told(person: Any) -> list[Any]:
    """Metadata, attributes and deployment of the job, by its agent."""
    answer: str = await person.ask("/told")
    return list(json.loads(answer.partition("/told ")[2]))


async def test_what_others_told_an_agent_is_told_to_its_successor(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    livekit_api: api.LiveKitAPI,
    truth: RoomTruth,
    call: Call,
) -> None:
    worker = await start_worker(agent_name, kind=WorkerKind.TOLD)
    caller = await call(await start_service(agent_name=agent_name, LIVENESS_INTERVAL_SECONDS="2"))
    person = await join_room(truth.name)
    await livekit_api.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(
            room=truth.name,
            agent_name=agent_name,
            metadata='{"customer": 4711}',
            attributes={"tier": "gold"},
        )
    )
    await person.wait_for_agents(1)
    assert await told(person) == ['{"customer": 4711}', {"tier": "gold"}, ""]
    await wait_for_state(caller, truth.name, "active")

    worker.kill()
    await start_worker(agent_name, kind=WorkerKind.TOLD)

    async def succeeded() -> bool:
        try:
            metadata, attributes, _ = await told(person)
        except TimeoutError:
            return False
        attributes.pop("agent-lifecycle.id")
        return bool((json.loads(metadata), attributes) == ({"customer": 4711}, {"tier": "gold"}))

    await eventually(succeeded, "the successor knows the same", timeout_s=60)


async def test_metadata_reaches_the_job(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    async with Caller(service.base_url, member_token(livekit_server, truth.name, "alice")) as member:
        refused = await member.request_agent(truth.name, metadata={"role": "admin"})
    assert (refused.status, refused.body["code"]) == (403, "forbidden")
    first = await caller.request_agent(
        truth.name, metadata={"customer": 1}, timezone="Europe/Berlin", timezoneOffset=60
    )
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    metadata, _, _ = await told(person)
    assert json.loads(metadata) == {"customer": 1, "timezone": "Europe/Berlin", "timezoneOffset": 60}
    reused = await caller.request_agent(truth.name, metadata={"customer": 2})
    assert (first.body["metadataApplied"], reused.body["metadataApplied"]) == (True, False)
    listed = await livekit_api.agent_dispatch.list_dispatch(truth.name)
    # Neither LiveKit's own restart nor anything else acts beside the service.
    own = [one.restart_policy for one in listed if one.agent_name == agent_name]
    assert own == [JobRestartPolicy.JRP_NEVER]
    assert reused.body["reused"] is True

    other = await caller.request_agent(truth.name, metadata={"customer": 2}, replaceIfMetadataDiffers=True)
    assert (other.body["reused"], other.body["metadataApplied"]) == (False, True)

    async def replaced() -> bool:
        try:
            metadata, _, _ = await told(person)
        except TimeoutError:
            return False
        return bool(json.loads(metadata) == {"customer": 2})

    await eventually(replaced, "an agent with the other metadata answers", timeout_s=30)
    await eventually(truth.has_one_agent, "one agent is left")


async def test_metadata_of_a_token_request_reaches_the_job(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    caller = await call(await start_service(agent_name=agent_name))
    answer = await caller.call(
        "POST",
        "/api/livekit/token",
        json={
            "room_name": truth.name,
            "a_field_of_the_future": 1,
            "room_config": {
                "another_field": {},
                "agents": [{"agent_name": agent_name, "metadata": "plain text", "a_third": 1}],
            },
        },
    )
    assert answer.status == 201
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert (await told(person))[0] == "plain text"


# Any room that LiveKit takes


@pytest.mark.parametrize(
    "name", ["Salle à manger", "会议", "org/room", "50% off?&#", "'; DROP TABLE rooms; --"]
)
async def test_any_room_that_livekit_takes_can_be_asked_for_and_about_and_ended(
    name: str,
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    livekit_api: api.LiveKitAPI,
    call: Call,
) -> None:
    truth = RoomTruth(livekit_api, f"{name} {uuid.uuid4().hex[:6]}")
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    try:
        assert (await caller.request_agent(truth.name, timezone="Etc/Unknown")).body["warnings"] == [
            "timezone is not an IANA time zone name and was left out"
        ]
        person = await join_room(truth.name)
        await person.wait_for_agents(1)
        assert await person.ask("hello") == "turn 1: hello"
        assert (await caller.end_agent(truth.name)).status == 200
        await eventually(truth.has_none, "the agent is gone")
    finally:
        await truth.delete()


async def test_a_room_name_of_256_bytes_is_one_and_of_257_is_none(
    reusable_worker: Worker, start_service: StartService, livekit_api: api.LiveKitAPI, call: Call
) -> None:
    """The limit is LiveKit's own."""
    longest = "é" * 128
    caller = await call(await start_service(agent_name=reusable_worker.agent_name))
    truth = RoomTruth(livekit_api, longest)
    try:
        assert (await caller.request_agent(longest)).status == 200
        await eventually(truth.has_one_agent, "its agent is there")
    finally:
        await truth.delete()
    assert (await caller.request_agent(longest + "x")).status == 422
    with pytest.raises(api.TwirpError):
        await livekit_api.room.create_room(api.CreateRoomRequest(name=longest + "x"))


# Agents that are not like the example


async def test_an_agent_that_loads_long_is_waited_for(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """Longer than the join timeout, and no second start."""
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    service = await start_service(agent_name=agent_name, AGENT_JOIN_TIMEOUT_SECONDS="9")
    caller = await call(service)
    person = await join_room(truth.name)
    await caller.request_agent(truth.name, metadata={"waits_s": 11})

    assert await person.wait_for_agents(1, timeout_s=40)
    assert await person.ask("hello") == "turn 1: hello"
    assert await metric(service, "agent_lifecycle_dispatches_created_total") == 1


async def test_an_entrypoint_that_raises_is_a_failure(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    await join_room(truth.name)
    first = await caller.request_agent(truth.name, metadata={"fails_after_s": 3})

    async def restarted() -> bool:
        status = await caller.status(truth.name)
        return status.get("dispatchId") not in (None, first.body["dispatchId"])

    await eventually(restarted, "another agent is started")
    ended = await caller.call("GET", f"/api/livekit/agents/{first.body['dispatchId']}")
    assert ended.body["agent"]["endReason"] == "agent_failed"


async def test_a_plain_agent_that_says_goodbye_has_finished(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """Also with AGENT_RESTART=always, if it has brought a human in."""
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    caller = await call(await start_service(agent_name=agent_name, AGENT_RESTART="always"))
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    # Within 10 s of joining it would have failed; LiveKit tells the time of a leave in whole seconds.
    await asyncio.sleep(11)
    await join_room(truth.name, "a human")

    async def both_are_known() -> bool:
        return bool((await caller.status(truth.name))["participantCount"] == 2)

    await eventually(both_are_known, "the service knows the human")
    await person.say("/goodbye")
    await wait_for_state(caller, truth.name, "none")
    await eventually(truth.has_none, "nothing is left in LiveKit")


async def test_a_publisher_worker_has_an_agent_for_each_publisher(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD, env={TYPE: "publisher"})
    service = await start_service(
        agent_name=agent_name,
        PUBLISHER_AGENTS=agent_name,
        AGENT_JOIN_TIMEOUT_SECONDS="6",
        CLEANUP_INTERVAL_MS="1000",
    )
    caller = await call(service)
    first = await caller.request_agent(truth.name)
    listener = await join_room(truth.name, "listener", microphone=False)
    # Longer than the join timeout: no publisher yet is no fault.
    await asyncio.sleep(7)
    assert (await caller.status(truth.name))["dispatchId"] == first.body["dispatchId"]

    await join_room(truth.name, "alice")
    await join_room(truth.name, "bob")
    await listener.wait_for_agents(2)
    # Some rounds of the reconciler.
    await asyncio.sleep(3)
    assert len(await truth.agents()) == 2
    assert (await caller.request_agent(truth.name)).body["reused"] is True
    assert len(await truth.agents()) == 2
    assert await metric(service, "agent_lifecycle_dispatches_created_total") == 1
    await caller.end_agent(truth.name)
    await eventually(truth.has_none, "all agents are gone")


async def test_an_avatar_is_part_of_its_agent(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD)
    service = await start_service(agent_name=agent_name, CLEANUP_INTERVAL_MS="500")
    caller = await call(service)
    await caller.request_agent(truth.name, metadata={"has_face": True})
    person = await join_room(truth.name)
    await person.wait_for_agents(2)
    assert await person.ask("hello") == "turn 1: hello"

    async def total(name: str) -> float:
        return await metric(service, f"agent_lifecycle_{name}")

    async def calls_are_few() -> bool:
        """Whether a round takes at most two calls, with four more in one round of ten."""
        # The rounds are read first and last: those that pass between two reads are counted then.
        rounds = await total('livekit_calls_total{method="list_rooms"')
        calls = await total("livekit_calls_total")
        await asyncio.sleep(3)
        calls = await total("livekit_calls_total") - calls
        rounds = await total('livekit_calls_total{method="list_rooms"') - rounds
        return calls <= 2.6 * rounds + 4

    # LiveKit lists a job after 5 s, or later; until then a room is inspected in full.
    await eventually(calls_are_few, "no full inspection in each round", timeout_s=60)
    drift = await total("drift_total")
    assert await calls_are_few()
    assert await total("drift_total") == drift
    assert (await caller.status(truth.name))["participantCount"] == 1

    await caller.end_agent(truth.name)

    async def alone() -> bool:
        return await truth.everybody() == [person.identity]

    await eventually(alone, "agent and avatar are gone")


async def test_workers_that_join_under_one_identity_are_replaced_all_the_same(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.TOLD, env={IDENTITY: "assistant"})
    caller = await call(await start_service(agent_name=agent_name))
    first = await caller.request_agent(truth.name)
    for turn in range(3):
        person = await join_room(truth.name)
        await person.wait_for_agents(1)
        assert await person.ask(f"hello {turn}") == f"turn 1: hello {turn}"
        await person.leave()
        again = await caller.request_agent(truth.name)
        assert again.status == 200
    assert again.body["dispatchId"] != first.body["dispatchId"]
    await eventually(truth.has_one_agent, "one agent and one dispatch are left")
    assert await truth.agents() == ["assistant"]
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("the last") == "turn 1: the last"


# Identities


async def test_a_person_who_joins_as_the_agent_takes_nobody_elses_agent(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    # Longer than the test takes: only the webhooks can tell.
    service = await start_service(
        agent_name=reusable_worker.agent_name, CLEANUP_INTERVAL_MS="300000", LIVENESS_INTERVAL_SECONDS="300"
    )
    caller = await call(service)
    person = await join_room(truth.name)
    await caller.request_agent(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    [taken] = await truth.agents()
    taker = await join_room(truth.name, taken)

    async def is_replaced() -> bool:
        return await truth.has_one_agent() and await truth.agents() != [taken]

    await eventually(is_replaced, "another agent is in", timeout_s=40)
    await person.wait_for_agents(1)
    assert await person.ask("hello again") == "turn 1: hello again"
    assert set(await truth.people()) == {person.identity, taker.identity}
    await wait_for_state(caller, truth.name, "active")
    # Nobody is thrown out for the agent either.
    await caller.end_agent(truth.name)
    await eventually(truth.has_none, "the agent is gone")
    assert set(await truth.people()) == {person.identity, taker.identity}


# Two services


async def test_two_services_of_one_agent_name_do_not_fight(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    services = [
        await start_service(agent_name=reusable_worker.agent_name, CLEANUP_INTERVAL_MS="1000")
        for _ in range(2)
    ]
    callers = [await call(service) for service in services]
    person = await join_room(truth.name)
    await asyncio.gather(*(caller.request_agent(truth.name) for caller in callers))

    async def they_agree() -> bool:
        seen = [await caller.status(truth.name) for caller in callers]
        known = {(one["state"], one["dispatchId"]) for one in seen}
        return len(known) == 1 and known == {("active", one) for one in await truth.dispatches()}

    # Each of two agents may be the only one for a moment.
    await eventually(they_agree, "both services know the one agent", timeout_s=30)
    await eventually(truth.has_one_agent, "one agent is left")
    [agent] = await truth.agents()
    await person.wait_for_agents(1)
    for turn in range(2):
        for caller in callers:
            assert (await caller.request_agent(truth.name)).status == 200
        assert await person.ask(f"hello {turn}") == f"turn {turn + 1}: hello {turn}"
        # Each service inspects all rooms once a second.
        await asyncio.sleep(1.5)
    assert await truth.agents() == [agent]
    warnings = [service.child.tail(lines=1_000).count("Another service") for service in services]
    # A service that was asked first need not know of the other one.
    assert 1 in warnings
    assert max(warnings) == 1
