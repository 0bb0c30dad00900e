"""What the agent answers to the health probe, before, during and after its session."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession, JobContext
from reusable_agent.presence import HEALTH_METHOD, Presence
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

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self.methods[name] = handler

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        pass


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom()


@pytest.fixture
async def presence(session: FakeSession, room: FakeRoom) -> Presence:
    ctx = SimpleNamespace(room=room, job=SimpleNamespace(dispatch_id="AD_1"))
    presence = Presence(cast("AgentSession[Any]", session), cast("JobContext", ctx), Warnings(None))
    presence.open()
    return presence


def answer(room: FakeRoom) -> object:
    return json.loads(room.local_participant.methods[HEALTH_METHOD](None))


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
