"""What the agent answers to the health probe, before, during and after its session."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession
from reusable_agent.presence import DISPATCH_ATTRIBUTE, HEALTH_METHOD, Presence, introduce
from reusable_agent.warnings import Warnings


@dataclass
class FakeSession:
    closing: bool = False

    def _is_closing(self) -> bool:
        return self.closing


class FakeRoom(rtc.EventEmitter[str]):
    """A room, and the agent in it."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = FakeAgent()

    def isconnected(self) -> bool:
        return True


@dataclass
class FakeAgent:
    methods: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self.methods[name] = handler

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes = self.attributes | attributes


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom()


@pytest.fixture
async def presence(session: FakeSession, room: FakeRoom) -> Presence:
    presence = Presence(cast("AgentSession[Any]", session), cast("rtc.Room", room), "AD_1", Warnings(None))
    presence.open()
    return presence


def answer(room: FakeRoom) -> object:
    return json.loads(room.local_participant.methods[HEALTH_METHOD](None))


@pytest.mark.usefixtures("presence")
async def test_it_publishes_its_dispatch(room: FakeRoom) -> None:
    await asyncio.sleep(0)
    assert room.local_participant.attributes == {DISPATCH_ATTRIBUTE: "AD_1"}


async def test_it_publishes_nothing_that_its_token_has_published(room: FakeRoom) -> None:
    agent = room.local_participant
    agent.attributes = {DISPATCH_ATTRIBUTE: "AD_1", "lk.agent.name": "support"}
    before = agent.attributes
    await introduce(cast("rtc.Room", room), "AD_1")
    assert agent.attributes is before


@pytest.mark.usefixtures("presence")
async def test_before_its_session_has_started_it_is_open_and_not_ready(room: FakeRoom) -> None:
    assert answer(room) == {"session": "open", "ready": False}


async def test_once_its_session_has_started_it_is_ready(presence: Presence, room: FakeRoom) -> None:
    presence.ready()
    assert answer(room) == {"session": "open", "ready": True}


async def test_an_agent_whose_session_closes_is_not_ready(
    presence: Presence, room: FakeRoom, session: FakeSession
) -> None:
    presence.ready()
    session.closing = True
    assert answer(room) == {"session": "closed", "ready": False}


async def test_an_agent_whose_session_could_not_start_is_closed(presence: Presence, room: FakeRoom) -> None:
    presence.close()
    assert answer(room) == {"session": "closed", "ready": False}
