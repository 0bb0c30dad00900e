"""Agents that hear, on the real thing: what people say aloud is answered, once, whichever agent it is."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from livekit import api

from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.holding import Holding
from devstack.livekit_server import LiveKitServer
from devstack.people import Person
from devstack.relay import WebhookRelay
from devstack.tone_stt import tone_of
from devstack.truth import RoomTruth, eventually
from devstack.workers import LIFECYCLE_URL, WorkerKind

pytestmark = pytest.mark.real

_ANSWER = re.compile(r"turn (\d+): word (\d+)")
#: Of two seconds each, so that this bounds the time.
_MOST_WORDS = 40


class Conversation:
    """One person who says a word after the other, and the answers to them."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.said = 0
        #: The word of each answer, by its turn, and in the order in which they came.
        self.answered: list[tuple[int, int]] = []

    async def say_next(self) -> int:
        self.said += 1
        assert self.said <= _MOST_WORDS, self.answered
        await self._person.speak(tone_of(self.said))
        return self.said

    async def listen(self) -> None:
        with suppress(TimeoutError):
            while True:
                # What the person says comes as a text too.
                if answer := _ANSWER.fullmatch(await self._person.next_answer(timeout_s=60)):
                    self.answered.append((int(answer[1]), int(answer[2])))

    async def until_heard(self) -> None:
        """Speak until a word is answered, and its answer is the last one: the first ones may not be heard."""
        while not self.answered:
            await self.say_next()
        await self.until_answered(await self.say_next())

    async def until_answered(self, word: int) -> None:
        async def is_answered() -> bool:
            return word in self.words

        await eventually(is_answered, f"an answer to word {word}", timeout_s=10)

    @property
    def words(self) -> list[int]:
        return [word for _, word in self.answered]


@asynccontextmanager
async def conversation(person: Person) -> AsyncIterator[Conversation]:
    talk = Conversation(person)
    listening = asyncio.create_task(talk.listen())
    yield talk
    listening.cancel()
    await asyncio.wait([listening])


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


async def test_a_warm_agent_hears_who_is_in_and_who_comes_back(
    agent_name: str,
    start_worker: StartWorker,
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    join_room: JoinRoom,
    room_name: str,
    relay: WebhookRelay,
) -> None:
    await start_worker(agent_name, kind=WorkerKind.HEARING)
    holding = Holding(livekit_server, livekit_api, agent_name)
    await holding.fill()
    person = await join_room(room_name)
    await holding.claim(room_name)
    async with conversation(person) as first:
        await first.until_heard()
    await person.leave()
    await relay.wait_for(room_name, "participant_left")

    async with conversation(await join_room(room_name)) as second:
        await second.until_heard()

    # It is one conversation, and what was said before is not said again.
    assert second.answered[0][0] == len(first.answered) + 1
    await holding.truth.delete()


async def test_a_redeploy_hands_a_spoken_conversation_over(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=agent_name, CONVERSATION_MEMORY="on")
    caller = await call(service)
    reports = {LIFECYCLE_URL: service.base_url}
    old = await start_worker(agent_name, kind=WorkerKind.HEARING, env=reports)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    [former] = [one.identity for one in await person.wait_for_agents(1)]
    async with conversation(person) as talk:
        await talk.until_heard()
        await start_worker(agent_name, kind=WorkerKind.HEARING, env=reports)

        old.drain()

        while len(person.agents) != 1 or person.agents[0].identity == former:
            await talk.say_next()
        await talk.until_answered(await talk.say_next())
    # Never two answers. The turns go on: it is the same conversation.
    assert talk.words == sorted(set(talk.words))
    assert [turn for turn, _ in talk.answered] == list(range(1, len(talk.answered) + 1))
