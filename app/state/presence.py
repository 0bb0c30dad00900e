"""Presence: the rooms and participants as LiveKit reported them.

Structs, not dataclasses: every webhook creates half a dozen, and a struct costs a tenth.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

#: The leave reasons after which an AgentSession with default options never responds again
#: (livekit-agents, voice/room_io/room_io.py, DEFAULT_CLOSE_ON_DISCONNECT_REASONS). A leave that was
#: noticed late may have had one of them.
MISSED = "MISSED"
CLOSING_LEAVES = frozenset({"CLIENT_INITIATED", "ROOM_DELETED", "USER_REJECTED", MISSED})


class ParticipantKind(StrEnum):
    PERSON = "person"
    AGENT = "agent"
    #: Egress, avatars and the like: in the room on behalf of others, and not counted as a person.
    DEPENDENT = "dependent"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a room; LiveKit gives each a new `sid`."""

    name: str
    sid: str
    #: By LiveKit's clock.
    created_at: int

    def is_newer_than(self, other: "Room") -> bool:
        return (self.created_at, self.sid) > (other.created_at, other.sid)


class Headcount(NamedTuple):
    """The people in a room."""

    people: int = 0
    #: Those of them who call by telephone.
    phones: int = 0

    def plus(self, participant: "Participant", number: int) -> "Headcount":
        """The count with `number` more, or fewer, of the kind of this participant."""
        if participant.kind is not ParticipantKind.PERSON:
            return self
        return Headcount(self.people + number, self.phones + (number if participant.is_phone else 0))


class TrackedRoom(Room, frozen=True, kw_only=True):
    finished_at: int | None = None
    #: Grows with every change of presence.
    generation: int = 0


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    sid: str
    kind: ParticipantKind
    #: None for participants that no session is linked to. Of people it is never stored and never logged.
    identity: str | None = None
    agent_name: str | None = None
    #: Whether this person calls by telephone: who hangs up there does not come back by a refresh.
    is_phone: bool = False
    #: By LiveKit's clock; None if not reported.
    joined_at: int | None = None
    #: The identity of the agent that this participant, its avatar, belongs to.
    on_behalf_of: str | None = None
    #: Whether the agent's session, as far as it reports one, was still being prepared.
    is_preparing: bool = False
    #: Whether the agent reports a session that has started.
    has_session: bool = False
    #: The agent's own report of why it leaves, see `reusable_agent`; None without one.
    leaving: str | None = None
    #: Whether another agent would go on with its conversation.
    remembers: bool = False
    #: Of an agent that had waited in a holding room: that room, in which its dispatch is.
    holding_room: str | None = None

    def is_newer_than(self, other: "Participant") -> bool:
        """By LiveKit's clock; False if it did not report when they joined."""
        return (self.joined_at or 0) > (other.joined_at or 0)


class TrackedParticipant(Participant, frozen=True, kw_only=True):
    #: A person's identity as it is stored, see `links.pseudonyms`; `identity` is None then.
    person: str | None = None
    #: Whether a webhook reported its join.
    is_announced: bool = False
    room_name: str
    room_sid: str
    left_at: int | None = None
    leave_reason: str | None = None
    #: The room's generation at its last change.
    generation: int = 0

    @property
    def is_in(self) -> bool:
        return self.left_at is None

    @property
    def has_departed(self) -> bool:
        """Whether LiveKit has reported the leave of this agent or avatar; of people its lists say more."""
        return not (self.is_in or self.leave_reason == MISSED or self.kind is ParticipantKind.PERSON)


def track(
    participant: Participant,
    known: TrackedParticipant | None,
    room: TrackedRoom,
    pseudonym: Callable[[str], str],
) -> TrackedParticipant:
    """The participant as it is stored, without the identity of a person. `known`: as stored before."""
    is_agent = participant.kind is ParticipantKind.AGENT
    person = known.person if known else None
    if participant.identity and participant.kind is ParticipantKind.PERSON:
        person = pseudonym(participant.identity)
    return TrackedParticipant(
        sid=participant.sid,
        kind=participant.kind,
        identity=participant.identity if is_agent else None,
        person=person,
        is_phone=known.is_phone if known else participant.is_phone,
        is_announced=known is not None and known.is_announced,
        agent_name=participant.agent_name if is_agent else None,
        joined_at=participant.joined_at,
        room_name=room.name,
        room_sid=room.sid,
        generation=room.generation,
    )
