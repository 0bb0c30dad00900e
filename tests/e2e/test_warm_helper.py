"""A warm agent, as the helper makes it: waits without a session, and goes into a room when it is claimed.

The tests play the service: they make the holding room and its dispatch, sign the token, and claim.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from livekit import api, rtc
from reusable_agent import CLAIM_METHOD, DISPATCH_ATTRIBUTE, HEALTH_METHOD, LEAVING_ATTRIBUTE

from devstack.fixture_types import JoinRoom, StartWorker
from devstack.holding import ClaimRefused, Holding, perform_rpc
from devstack.livekit_server import LiveKitServer
from devstack.obedient_worker import CONNECT_FIRST, DECLINED
from devstack.people import member_token
from devstack.relay import WebhookRelay
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind

pytestmark = pytest.mark.real

#: livekit-agents cancels an entrypoint that still waits 15 s after its job was told to end. LiveKit ends the
#: job of a dispatch that is younger than 5 s only at that age.
_AT_ONCE_S = 10.0


@pytest.fixture
async def holding(
    livekit_server: LiveKitServer, livekit_api: api.LiveKitAPI, relay: WebhookRelay, obedient_worker: Worker
) -> AsyncIterator[Holding]:
    """A warm agent that waits."""
    assert relay
    holding = Holding(livekit_server, livekit_api, obedient_worker.agent_name)
    await holding.fill()
    yield holding
    await holding.truth.delete()


@pytest.fixture
def person_room(livekit_api: api.LiveKitAPI, room_name: str) -> RoomTruth:
    return RoomTruth(livekit_api, room_name)


async def wait_until_gone(*rooms: RoomTruth) -> None:
    async def gone() -> bool:
        return not any([await room.agents() for room in rooms])

    await eventually(gone, "the agent has left", timeout_s=_AT_ONCE_S)


async def test_it_waits_without_a_session(holding: Holding, livekit_api: api.LiveKitAPI) -> None:
    assert await holding.health() == {"session": "waiting", "ready": True}

    async def is_introduced() -> bool:
        [agent] = await _participants(livekit_api, holding.name)
        assert "lk.agent.state" not in agent.attributes
        told = {name: agent.attributes.get(name) for name in (DISPATCH_ATTRIBUTE, "agent-lifecycle.warm")}
        return told == {DISPATCH_ATTRIBUTE: holding.dispatch_id, "agent-lifecycle.warm": "waiting"}

    await eventually(is_introduced, "the agent names its dispatch")


async def test_a_claimed_agent_answers_in_the_room_and_who_comes_back_too(
    holding: Holding, join_room: JoinRoom, room_name: str, livekit_api: api.LiveKitAPI, relay: WebhookRelay
) -> None:
    alice = await join_room(room_name)
    told = await holding.claim(room_name, metadata="for alice", attributes={"tier": "gold"})
    assert told == {"claimed": True}
    [agent] = await alice.wait_for_agents()
    assert agent.identity == holding.identity
    assert await alice.ask("hello") == "turn 1: hello"
    ready = '{"session": "open", "ready": true}'
    assert await perform_rpc(livekit_api, room_name, agent.identity, HEALTH_METHOD) == ready
    assert await perform_rpc(livekit_api, holding.name, agent.identity, HEALTH_METHOD) == ready
    assigned = f'["{room_name}", "for alice", {{"tier": "gold"}}, true] {room_name}'
    assert await alice.ask("/assigned") == f"turn 2: /assigned {assigned}"

    [waited] = await _participants(livekit_api, holding.name)
    assert waited.attributes["agent-lifecycle.warm"] == "claimed"

    await alice.leave()
    await relay.wait_for(room_name, "participant_left")
    again = await join_room(room_name)
    await again.wait_for_agents()
    assert await again.ask("three") == "turn 3: three"


async def test_a_job_of_the_usual_kind_is_assigned_its_own_room(
    obedient_worker: Worker, join_room: JoinRoom, room_name: str, livekit_api: api.LiveKitAPI
) -> None:
    alice = await join_room(room_name)
    await livekit_api.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(
            room=room_name, agent_name=obedient_worker.agent_name, metadata="for her"
        )
    )
    await alice.wait_for_agents()
    assigned = f'["{room_name}", "for her", {{}}, false] {room_name}'
    assert await alice.ask("/assigned") == f"turn 1: /assigned {assigned}"


async def test_it_is_claimed_once_and_a_claim_whose_answer_was_lost_is_answered_again(
    holding: Holding, room_name: str, person_room: RoomTruth
) -> None:
    assert await holding.claim(room_name, claim="mine") == {"claimed": True}
    assert await holding.claim(room_name, claim="mine") == {"claimed": True}
    with pytest.raises(ClaimRefused) as refused:
        await holding.claim(room_name, claim="another")
    assert refused.value.code == 409
    assert await person_room.agents() == [holding.identity]


async def test_somebody_in_the_holding_room_cannot_claim_it(
    holding: Holding, join_room: JoinRoom, room_name: str
) -> None:
    mallory = await join_room(holding.name, "mallory")
    await mallory.wait_for_agents()

    async def is_refused_for_who_it_is() -> bool:
        # The agent hears of her a moment after she has joined.
        with pytest.raises(rtc.RpcError) as refused:
            await mallory.room.local_participant.perform_rpc(
                destination_identity=holding.identity, method=CLAIM_METHOD, payload="{}"
            )
        return refused.value.code == 403

    await eventually(is_refused_for_who_it_is, "she is refused")
    assert await holding.claim(room_name) == {"claimed": True}


async def test_a_persons_token_calls_no_agent_into_a_room(
    holding: Holding, livekit_server: LiveKitServer, person_room: RoomTruth
) -> None:
    with pytest.raises(ClaimRefused) as refused:
        await holding.claim(
            person_room.name, token=member_token(livekit_server, person_room.name, holding.identity)
        )
    assert refused.value.code == 403
    assert await holding.health() == {"session": "waiting", "ready": True}


async def test_a_claim_that_cannot_enter_its_room_is_refused_and_the_agent_ends(
    holding: Holding, room_name: str, person_room: RoomTruth
) -> None:
    with pytest.raises(ClaimRefused) as refused:
        await holding.claim(
            room_name, token=holding.token(room_name, secret="another secret of at least 32 characters")
        )
    assert refused.value.code == 500
    await wait_until_gone(holding.truth, person_room)


@pytest.mark.parametrize("claimed", [False, True], ids=["waiting", "claimed"])
@pytest.mark.parametrize("what", ["dispatch", "room"])
async def test_without_its_holding_room_or_dispatch_it_ends(
    holding: Holding,
    obedient_worker: Worker,
    person_room: RoomTruth,
    what: str,
    claimed: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    if claimed:
        await holding.claim(person_room.name)
    if what == "dispatch":
        await holding.delete_dispatch()
    else:
        await holding.truth.delete()
    await wait_until_gone(holding.truth, person_room)
    assert "NotAssignedError" not in obedient_worker.child.output()


@pytest.mark.parametrize("metadata", ["", CONNECT_FIRST], ids=["the helper connects", "connected before"])
async def test_removed_from_the_persons_room_it_ends(
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    obedient_worker: Worker,
    person_room: RoomTruth,
    metadata: str,
) -> None:
    holding = Holding(livekit_server, livekit_api, obedient_worker.agent_name)
    await holding.fill(metadata=metadata)
    await holding.claim(person_room.name)
    await livekit_api.room.remove_participant(
        api.RoomParticipantIdentity(room=person_room.name, identity=holding.identity)
    )
    await wait_until_gone(holding.truth, person_room)
    await holding.truth.delete()


@pytest.mark.parametrize(
    ("command", "why"), [("/close", "finished"), ("/hang up", "finished"), ("/break", "failed")]
)
async def test_a_claimed_agent_whose_session_closes_leaves_both_rooms_and_says_why(
    holding: Holding,
    relay: WebhookRelay,
    join_room: JoinRoom,
    person_room: RoomTruth,
    command: str,
    why: str,
) -> None:
    alice = await join_room(person_room.name)
    await holding.claim(person_room.name)
    await alice.wait_for_agents()
    assert await alice.ask("hello") == "turn 1: hello"
    await alice.say(command)
    [left] = await relay.wait_for(person_room.name, "participant_left")
    assert left.body["participant"]["attributes"][LEAVING_ATTRIBUTE] == why
    await wait_until_gone(holding.truth, person_room)


async def test_an_agent_whose_assignment_fails_leaves_and_says_so(
    holding: Holding, relay: WebhookRelay, person_room: RoomTruth
) -> None:
    await holding.claim(person_room.name, metadata=DECLINED)
    [left] = await relay.wait_for(person_room.name, "participant_left")
    assert left.body["participant"]["attributes"][LEAVING_ATTRIBUTE] == "failed"
    await wait_until_gone(holding.truth, person_room)


async def test_the_room_that_a_claimed_agent_deletes_is_the_persons(
    holding: Holding, relay: WebhookRelay, join_room: JoinRoom, person_room: RoomTruth
) -> None:
    """As livekit-agents' EndCallTool does: it hangs up a telephone call."""
    alice = await join_room(person_room.name)
    await holding.claim(person_room.name)
    await alice.wait_for_agents()
    await alice.ask("hello")
    await alice.say("/delete")
    await relay.wait_for(person_room.name, "room_finished")
    await wait_until_gone(holding.truth, person_room)


async def test_a_redeploy_of_the_worker_waits_for_no_warm_agent(
    start_worker: StartWorker, livekit_server: LiveKitServer, livekit_api: api.LiveKitAPI, relay: WebhookRelay
) -> None:
    assert relay
    worker = await start_worker("drained-agent", kind=WorkerKind.OBEDIENT, drain_timeout_s=1)
    holding = Holding(livekit_server, livekit_api, worker.agent_name)
    await holding.fill()
    worker.drain()
    assert await asyncio.to_thread(worker.child.wait, _AT_ONCE_S) == 0
    assert await holding.truth.agents() == []
    await holding.truth.delete()


async def test_a_killed_worker_answers_no_claim(
    start_worker: StartWorker,
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    relay: WebhookRelay,
    person_room: RoomTruth,
) -> None:
    assert relay
    worker = await start_worker("killed-agent", kind=WorkerKind.OBEDIENT)
    holding = Holding(livekit_server, livekit_api, worker.agent_name)
    await holding.fill()
    worker.kill()
    with pytest.raises((ClaimRefused, api.TwirpError)):
        await holding.claim(person_room.name)
    await holding.truth.delete()
    assert await person_room.agents() == []


async def _participants(client: api.LiveKitAPI, room: str) -> list[api.ParticipantInfo]:
    listed = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    return list(listed.participants)
