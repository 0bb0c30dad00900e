"""What the helper promises: the session outlives its user, hears everybody, and says so when it does not."""

import asyncio
import json
from typing import Any

import pytest
import reusable_agent
from livekit import rtc
from livekit.agents import Agent, AgentSession, room_io
from reusable_agent import DISPATCH_ATTRIBUTE, HEALTH_METHOD, LEAVING_ATTRIBUTE, UnsuitableOptionsError

from devstack.fixture_types import Dispatch, JoinRoom, StartWorker
from devstack.obedient_worker import CONNECT_FIRST
from devstack.people import Person
from devstack.relay import WebhookRelay
from devstack.workers import Worker

pytestmark = pytest.mark.real

_SPEAKERS_BOUND_S = 15.0


async def test_who_comes_back_goes_on_in_the_same_conversation(
    reusable_worker: Worker, relay: WebhookRelay, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    alice = await join_room(room_name)
    await dispatch(room_name, reusable_worker.agent_name)
    [agent] = await alice.wait_for_agents()
    assert await alice.ask("one") == "turn 1: one"
    assert await alice.ask("two") == "turn 2: two"
    await alice.leave()
    await relay.wait_for(room_name, "participant_left")

    again = await join_room(room_name)
    assert [one.identity for one in await again.wait_for_agents()] == [agent.identity]
    assert await again.ask("three") == "turn 3: three"
    await again.leave()
    await relay.wait_for(room_name, "participant_left", count=2)

    stranger = await join_room(room_name, "bob")
    await stranger.wait_for_agents()
    assert await stranger.ask("four") == "turn 4: four"


async def test_an_agent_that_came_first_answers_who_comes_later(
    reusable_worker: Worker, relay: WebhookRelay, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    await dispatch(room_name, reusable_worker.agent_name)
    await relay.wait_for(room_name, "participant_joined")
    alice = await join_room(room_name)
    await alice.wait_for_agents()
    assert await alice.ask("hello") == "turn 1: hello"


async def test_who_publishes_nothing_is_answered_too(
    reusable_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    """LiveKit announces such people late, so their first text comes from somebody unknown."""
    alice = await join_room(room_name)
    await dispatch(room_name, reusable_worker.agent_name)
    await alice.wait_for_agents()
    typist = await join_room(room_name, "typist", microphone=False)
    assert await typist.ask("only typing") == "turn 1: only typing"


@pytest.mark.parametrize(
    "options",
    [
        {"room_options": room_io.RoomOptions(delete_room_on_close=True)},
        {"room_input_options": room_io.RoomInputOptions()},
        {"capture_run": True},
    ],
)
async def test_options_that_contradict_it_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnsuitableOptionsError):
        await reusable_agent.start(AgentSession(), Agent(instructions=""), room=rtc.Room(), **options)


async def test_three_people_are_all_answered(
    reusable_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    people = [await join_room(room_name, identity) for identity in ("alice", "bob", "carol")]
    await dispatch(room_name, reusable_worker.agent_name)
    for person in people:
        await person.wait_for_agents()
    for turn, person in enumerate(people, start=1):
        assert await person.ask(f"I am {person.identity}") == f"turn {turn}: I am {person.identity}"


async def test_questions_asked_at_once_do_not_cut_each_other_off(
    reusable_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    people = [await join_room(room_name, identity) for identity in ("alice", "bob", "carol")]
    await dispatch(room_name, reusable_worker.agent_name)
    for person in people:
        await person.wait_for_agents()
    await asyncio.gather(*(person.say(person.identity) for person in people))
    answers = [await people[0].next_answer() for _ in people]
    assert sorted(answer.split(": ")[1] for answer in answers) == ["alice", "bob", "carol"]


async def test_the_voice_of_whoever_speaks_is_heard(
    obedient_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    alice = await join_room(room_name)
    bob = await join_room(room_name, "bob")
    await dispatch(room_name, obedient_worker.agent_name)
    for person in (alice, bob):
        await person.wait_for_agents()

    async def wait_until_heard(speaker: Person) -> None:
        async with asyncio.timeout(_SPEAKERS_BOUND_S):
            while await whom_it_hears() != speaker.identity:  # noqa: ASYNC110 - it tells only who asks
                await asyncio.sleep(0.2)

    async def whom_it_hears() -> str:
        await alice.say("/whom")
        return (await alice.next_answer()).split(": ")[1]

    for speaker in (bob, alice, bob):
        async with speaker.speaking():
            await wait_until_heard(speaker)


async def test_the_health_probe_tells_an_open_session(
    reusable_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    alice = await join_room(room_name)
    made = await dispatch(room_name, reusable_worker.agent_name)
    [agent] = await alice.wait_for_agents()
    await alice.ask("hello")
    answer = await alice.room.local_participant.perform_rpc(
        destination_identity=agent.identity, method=HEALTH_METHOD, payload=""
    )
    assert json.loads(answer) == {"session": "open", "ready": True}
    assert agent.attributes[DISPATCH_ATTRIBUTE] == made.id


@pytest.mark.parametrize(
    ("command", "why"),
    [("/close", "finished"), ("/shutdown", "finished"), ("/hang up", "finished"), ("/break", "failed")],
)
@pytest.mark.parametrize("metadata", ["", CONNECT_FIRST], ids=["the session connects", "connected before"])
async def test_an_agent_whose_session_closes_leaves_and_says_why(
    obedient_worker: Worker,
    relay: WebhookRelay,
    join_room: JoinRoom,
    room_name: str,
    dispatch: Dispatch,
    command: str,
    why: str,
    metadata: str,
) -> None:
    alice = await join_room(room_name)
    await dispatch(room_name, obedient_worker.agent_name, metadata=metadata)
    await alice.wait_for_agents()
    assert await alice.ask("hello") == "turn 1: hello"
    await alice.say(command)
    [left] = await relay.wait_for(room_name, "participant_left")
    assert left.body["participant"]["attributes"][LEAVING_ATTRIBUTE] == why


async def test_a_redeploy_of_the_worker_is_announced(
    start_worker: StartWorker, relay: WebhookRelay, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    worker = await start_worker("drained-agent", drain_timeout_s=8)
    alice = await join_room(room_name)
    await dispatch(room_name, worker.agent_name)
    await alice.wait_for_agents()
    assert await alice.ask("hello") == "turn 1: hello"
    worker.drain()
    assert await alice.ask("still there") == "turn 2: still there"
    [left] = await relay.wait_for(room_name, "participant_left", timeout_s=40)
    assert left.body["participant"]["attributes"][LEAVING_ATTRIBUTE] == "worker_shutdown"
    assert await asyncio.to_thread(worker.child.wait, 40) == 0
