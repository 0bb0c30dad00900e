"""Who is in which room: the rooms and participants as LiveKit reported them.

Structs and not dataclasses: every webhook makes half a dozen, at a tenth of the price.
"""

from enum import StrEnum

import msgspec

#: The leaves after which an AgentSession with default options never answers again
#: (livekit-agents, voice/room_io/room_io.py, DEFAULT_CLOSE_ON_DISCONNECT_REASONS). A leave that was
#: only noticed later may have been one of them.
MISSED = "MISSED"
CLOSING_LEAVES = frozenset({"CLIENT_INITIATED", "ROOM_DELETED", "USER_REJECTED", MISSED})


class ParticipantKind(StrEnum):
    PERSON = "person"
    AGENT = "agent"
    #: Egress and the like: in the room for somebody else's sake, and counted as nobody.
    DEPENDENT = "dependent"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a room; LiveKit gives each a new `sid`."""

    name: str
    sid: str
    #: By LiveKit's clock.
    created_at: int

    def is_newer_than(self, other: "Room") -> bool:
        return (self.created_at, self.sid) > (other.created_at, other.sid)


class TrackedRoom(Room, frozen=True, kw_only=True):
    finished_at: int | None = None
    #: Grows with every change of presence.
    generation: int = 0


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    sid: str
    kind: ParticipantKind
    #: None for people: who they are is not needed.
    identity: str | None = None
    agent_name: str | None = None
    #: By LiveKit's clock; None when it did not say.
    joined_at: int | None = None
    #: What the agent said of its leaving, see `reusable_agent`; None when it said nothing.
    leaving: str | None = None


class TrackedParticipant(Participant, frozen=True, kw_only=True):
    room_name: str
    room_sid: str
    left_at: int | None = None
    leave_reason: str | None = None
    #: The room's generation at its last change.
    generation: int = 0

    @property
    def is_in(self) -> bool:
        return self.left_at is None
