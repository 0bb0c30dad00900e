"""LiveKit as this service needs it: six questions, four acts, and what their answers are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.state.presence import Participant, ParticipantKind, Room

#: Where our row's id stands on a dispatch in LiveKit, so that an answer that was lost can be found again.
ROW_ID_ATTRIBUTE = "agent-lifecycle.id"
#: What an agent with the `reusable_agent` helper says of its leaving.
LEAVING_ATTRIBUTE = "agent-lifecycle.leaving"
#: The method by which such an agent is asked how it is.
HEALTH_METHOD = "agent-lifecycle.health"


class Probe(StrEnum):
    """What an agent answered when it was asked whether it is well."""

    OPEN = "open"  #: its session is open
    CLOSED = "closed"  #: its process runs, its session will never answer again
    ALIVE = "alive"  #: its process runs; it does not know the question
    SILENT = "silent"  #: no answer in time: frozen, dead, or gone meanwhile
    CONNECTING = "connecting"  #: in the room, but with no way yet for a question to reach it


class RoomInfo(Room, frozen=True, kw_only=True):
    departure_timeout_s: int
    #: LiveKit's own count, without agents; it may be late.
    participant_count: int = 0


@dataclass(frozen=True, kw_only=True)
class ListedDispatch:
    """A dispatch as LiveKit has it."""

    id: str
    agent_name: str
    #: By LiveKit's clock.
    created_at: int
    #: Our row's id, when we made it.
    row_id: str | None = None
    #: Empty for the first 5 s of a dispatch, also while its agent is in the room.
    agent_identities: tuple[str, ...] = ()


class LiveKit(Protocol):
    """LiveKitUnavailable is raised when it could not be asked, LiveKitRefused when the answer was no.

    LiveKitTimeout, a LiveKitUnavailable, says that an act may have been done or not.
    """

    def now(self) -> int:
        """LiveKit's own time, as its answers tell it: never ahead of it, and behind by a second at most."""

    async def find_room(self, room_name: str) -> RoomInfo | None:
        """The room; None is LiveKit's word that there is none."""

    async def list_rooms(self) -> tuple[RoomInfo, ...]: ...

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        """The room, made with both timeouts at `timeout_s` if it did not exist; else with those it has."""

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        """The dispatches that name an agent. Slow, and unavailable, for a room that does not exist."""

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]: ...

    async def list_people(self, room_name: str) -> frozenset[str]:
        """The identities of the people who are in the room, not of those on their way; never to be kept."""

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, metadata: str
    ) -> ListedDispatch: ...

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        """False when LiveKit did not have it. Slow, and unavailable, for a room that does not exist."""

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        """False when it was not in."""

    async def probe(self, room_name: str, identity: str) -> Probe:
        """Ask the agent how it is. Unavailable also for a participant that is not in."""


def kind_of(name: str, *, is_agent: bool, is_recorder: bool) -> ParticipantKind:
    """LiveKit's own idea of a dependent (livekit-server, rtc/participant.go, IsDependent)."""
    if name == "AGENT" or is_agent:
        return ParticipantKind.AGENT
    if name == "EGRESS" or is_recorder:
        return ParticipantKind.DEPENDENT
    return ParticipantKind.PERSON


def agent_name_of(attributes: Mapping[str, str]) -> str | None:
    return attributes.get("lk.agent_name") or attributes.get("lk.agent.name")
