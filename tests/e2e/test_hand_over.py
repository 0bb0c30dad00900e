"""The helper's part of a hand-over, on the real thing: the service's part is played by the test."""

import asyncio
import json
from collections import Counter

import pytest
from livekit import api, rtc
from reusable_agent import HAND_OVER_METHOD, RELIEVES_ATTRIBUTE

from devstack.fixture_types import Dispatch, JoinRoom
from devstack.livekit_server import LiveKitServer
from devstack.people import Person
from devstack.truth import eventually

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("reusable_worker")]

#: So many texts wait for an answer, however fast the machine is.
_UNANSWERED = 20

AGENT = "reusable-agent"


async def relieve(client: api.LiveKitAPI, room: str, former: str) -> None:
    """Dispatch an agent that takes over from the agent `former`."""
    await client.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(room=room, agent_name=AGENT, attributes={RELIEVES_ATTRIBUTE: former})
    )


async def test_every_text_is_answered_once_by_the_one_agent_or_the_other(
    livekit_api: api.LiveKitAPI, room_name: str, join_room: JoinRoom, dispatch: Dispatch
) -> None:
    await dispatch(room_name, AGENT)
    person = await join_room(room_name)
    [former] = [one.identity for one in await person.wait_for_agents(1)]
    assert await person.ask("hello") == "turn 1: hello"

    await relieve(livekit_api, room_name, former)
    answers: list[str] = []
    sent = 0
    while len(person.agents) != 1 or person.agents[0].identity == former or sent < 3:
        sent += 1
        await person.say(f"text {sent}.")
        answers.append(await person.next_answer(timeout_s=15))
        assert sent < 500

    # Nothing comes twice: the last answer is that to a text after all others.
    assert (await person.ask("the end")).endswith(": the end")
    assert Counter(answer.partition(": ")[2] for answer in answers) == Counter(
        f"text {number}." for number in range(1, sent + 1)
    )
    # The new one has no memory: it began to count anew.
    assert answers[-1].startswith("turn ")


async def test_an_agent_that_is_gone_is_not_waited_for(
    livekit_api: api.LiveKitAPI, room_name: str, join_room: JoinRoom
) -> None:
    await relieve(livekit_api, room_name, "agent-AJ_gone")
    person = await join_room(room_name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"


async def test_an_agent_that_livekit_has_not_announced_yet_takes_over(
    livekit_server: LiveKitServer, room_name: str, join_room: JoinRoom, dispatch: Dispatch
) -> None:
    """It publishes nothing, so the others hear of it up to 3 s later."""
    await dispatch(room_name, AGENT)
    person = await join_room(room_name)
    [former] = await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    grants = api.VideoGrants(room_join=True, room=room_name, agent=True)
    token = (
        api.AccessToken(livekit_server.api_key, livekit_server.api_secret)
        .with_identity("agent-AJ_new")
        .with_kind("agent")
        .with_grants(grants)
    )
    successor = rtc.Room()
    await successor.connect(livekit_server.url, token.to_jwt())

    answer = await successor.local_participant.perform_rpc(
        destination_identity=former.identity, method=HAND_OVER_METHOD, payload="{}", response_timeout=10
    )

    assert len(json.loads(answer)["taken"]) == 1
    await successor.disconnect()


async def test_a_person_cannot_have_an_agent_hand_over(
    room_name: str, join_room: JoinRoom, dispatch: Dispatch
) -> None:
    await dispatch(room_name, AGENT)
    person = await join_room(room_name)
    [agent] = await person.wait_for_agents(1)
    await person.ask("hello")

    with pytest.raises(rtc.RpcError) as refused:
        await person.room.local_participant.perform_rpc(
            destination_identity=agent.identity, method=HAND_OVER_METHOD, payload="{}"
        )

    assert refused.value.code == 403
    assert await person.ask("still there?") == "turn 2: still there?"


async def test_a_long_answer_is_finished_before_the_hand_over(
    livekit_api: api.LiveKitAPI, room_name: str, join_room: JoinRoom, dispatch: Dispatch
) -> None:
    """Two people, so that no text interrupts another: all of them are answered, in their order."""
    await dispatch(room_name, AGENT)
    ann, bob = await join_room(room_name, "ann"), await join_room(room_name, "bob")
    [former] = [one.identity for one in await ann.wait_for_agents(1)]
    await ann.ask("hello")
    heard: list[str] = []
    listening = asyncio.create_task(_listen(ann, heard))

    await relieve(livekit_api, room_name, former)
    sent = 0
    async with asyncio.timeout(60):
        while all(one.identity == former for one in ann.agents) or len(ann.agents) > 1:
            if sent - len(heard) < _UNANSWERED:
                sent += 1
                await (ann if sent % 2 else bob).say(f"text {sent}.")
            await asyncio.sleep(0.02)

    async def all_answered() -> bool:
        return len({answer.partition(": ")[2] for answer in heard}) >= sent

    await eventually(all_answered, "every text has its answer")
    listening.cancel()
    counted = Counter(answer.partition(": ")[2] for answer in heard)
    assert counted == Counter(f"text {number}." for number in range(1, sent + 1))


async def _listen(person: Person, heard: list[str]) -> None:
    while True:
        heard.append(await person.next_answer(timeout_s=60))
