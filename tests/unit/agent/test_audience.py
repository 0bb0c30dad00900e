"""Whom the session hears: whoever speaks, as LiveKit tells it, and somebody for as long as anybody is in."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession, room_io
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from reusable_agent.audience import Audience
from reusable_agent.options import terms_of

Kind = rtc.ParticipantKind


@dataclass
class FakeParticipant:
    identity: str
    kind: Kind.ValueType = Kind.PARTICIPANT_KIND_STANDARD
    attributes: dict[str, str] = field(default_factory=dict)


class FakeRoom(rtc.EventEmitter[str]):
    """A room, the events that come from it, and the session that is in it."""

    def __init__(self, *people: str) -> None:
        super().__init__()
        self.local_participant = FakeParticipant("agent", Kind.PARTICIPANT_KIND_AGENT)
        self.remote_participants = {one: FakeParticipant(one) for one in people}
        self.room_io = FakeRoomIO(self)

    def audience(self, **options: Any) -> Audience:
        terms = terms_of(room_io.RoomOptions(**options))
        return Audience(cast("AgentSession[Any]", self), cast("rtc.Room", self), terms)

    @property
    def heard(self) -> str | None:
        return self.room_io.linked

    def speak(self, *identities: str) -> None:
        """Tell who speaks now, the loudest first."""
        everybody = self.remote_participants | {"agent": self.local_participant}
        self.emit("active_speakers_changed", [everybody[identity] for identity in identities])

    def leave(self, identity: str) -> None:
        self.emit("participant_disconnected", self.remote_participants.pop(identity))

    def join(self, identity: str) -> None:
        self.remote_participants[identity] = FakeParticipant(identity)
        self.emit("participant_connected", self.remote_participants[identity])


class FakeRoomIO:
    """What RoomIO does with a link: it stays with one identity, here or gone, until it is told otherwise."""

    def __init__(self, room: FakeRoom) -> None:
        self._room = room
        self.linked: str | None = None
        self.told: list[str] = []

    @property
    def linked_participant(self) -> FakeParticipant | None:
        return self._room.remote_participants.get(self.linked or "")

    def set_participant(self, identity: str) -> None:
        self.linked = identity
        self.told.append(identity)


async def next_round() -> None:
    """Let the loop call what the audience has put off."""
    reached = asyncio.Event()
    asyncio.get_running_loop().call_soon(reached.set)
    await reached.wait()


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom("alice", "bob", "carol")


def test_whoever_speaks_is_heard(room: FakeRoom) -> None:
    room.audience().open()
    heard = [room.heard]
    for speaker in ("bob", "carol", "alice"):
        room.speak(speaker)
        heard.append(room.heard)
    assert heard == ["alice", "bob", "carol", "alice"]


def test_who_falls_silent_is_still_heard_until_somebody_else_speaks(room: FakeRoom) -> None:
    room.audience().open()
    room.speak("bob")
    room.speak()
    assert room.heard == "bob"


def test_a_second_voice_does_not_take_the_floor_from_the_first(room: FakeRoom) -> None:
    room.audience().open()
    room.speak("bob")
    room.speak("carol", "bob")
    assert room.heard == "bob"
    room.speak("carol")
    assert room.heard == "carol"


def test_of_two_new_voices_the_louder_is_heard(room: FakeRoom) -> None:
    room.audience().open()
    room.speak("carol", "bob")
    assert room.heard == "carol"


def test_the_agent_does_not_listen_to_itself_or_to_its_kind(room: FakeRoom) -> None:
    room.remote_participants["other-agent"] = FakeParticipant("other-agent", Kind.PARTICIPANT_KIND_AGENT)
    avatar = FakeParticipant("avatar", attributes={ATTRIBUTE_PUBLISH_ON_BEHALF: "agent"})
    room.remote_participants["avatar"] = avatar
    room.audience().open()
    for speaker in ("agent", "other-agent", "avatar"):
        room.speak(speaker)
    assert room.heard == "alice"
    room.speak("agent", "bob")
    assert room.heard == "bob"


def test_who_is_to_be_the_only_one_stays_it(room: FakeRoom) -> None:
    room.audience(participant_identity="bob").open()
    room.speak("carol")
    assert room.room_io.told == ["bob"]


def test_whoever_is_not_there_at_the_start_is_heard_once_he_speaks() -> None:
    room = FakeRoom()
    room.audience().open()
    assert room.heard is None
    room.remote_participants["alice"] = FakeParticipant("alice")
    room.speak("alice")
    assert room.heard == "alice"


async def test_after_the_one_who_was_heard_somebody_else_is(room: FakeRoom) -> None:
    room.audience().open()
    room.speak("bob")
    room.leave("bob")
    await next_round()
    assert room.heard == "alice"


async def test_a_stranger_in_an_empty_room_is_heard() -> None:
    room = FakeRoom("alice")
    room.audience().open()
    room.leave("alice")
    await next_round()
    room.join("bob")
    await next_round()
    assert room.heard == "bob"


async def test_a_session_that_is_over_follows_nobody(room: FakeRoom) -> None:
    audience = room.audience()
    audience.open()
    room.leave("alice")
    audience.close()
    room.speak("carol")
    await next_round()
    assert room.room_io.told == ["alice"]
