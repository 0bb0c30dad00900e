"""The interface to LiveKit: the calls that this service makes, and the types of their answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from app.lifecycle import UNTOLD, Briefing
from app.lifecycle.warm import HOLDING_PREFIX, is_holding_room
from app.state.presence import Participant, ParticipantKind, Room
from app.state.trace_context import TRACE_ATTRIBUTES

#: The row's id on a dispatch in LiveKit: it finds the dispatch again after a lost answer.
ROW_ID_ATTRIBUTE = "agent-lifecycle.id"
#: On the dispatch of an agent that takes over from one that still answers: the identity of that one.
RELIEVES_ATTRIBUTE = "agent-lifecycle.relieves"
_OWN_ATTRIBUTES = (ROW_ID_ATTRIBUTE, RELIEVES_ATTRIBUTE, *TRACE_ATTRIBUTES)
#: The state of an agent's session (livekit-agents, types.py, ATTRIBUTE_AGENT_STATE).
_STATE_ATTRIBUTE = "lk.agent.state"
#: Whose avatar a participant is (livekit-agents, types.py, ATTRIBUTE_PUBLISH_ON_BEHALF).
_ON_BEHALF_ATTRIBUTE = "lk.publish_on_behalf"
#: Why an agent with the `reusable_agent` helper leaves.
LEAVING_ATTRIBUTE = "agent-lifecycle.leaving"
#: `on`: what is said to an agent with the helper outlives it.
MEMORY_ATTRIBUTE = "agent-lifecycle.memory"
#: Of a warm agent, in both of its rooms, once it is claimed; before, it is `waiting`.
CLAIMED = {"agent-lifecycle.warm": "claimed"}
#: Of a claimed one, in the room of people: the room in which it had waited.
HOLDING_ROOM_ATTRIBUTE = "agent-lifecycle.holding_room"
#: The RPC method that probes such an agent.
HEALTH_METHOD = "agent-lifecycle.health"
#: The RPC method that warns such an agent of the end of its session.
WARNING_METHOD = "agent-lifecycle.warning"
#: The RPC method that tells a warm agent into which room to go.
CLAIM_METHOD = "agent-lifecycle.claim"


class Probe(StrEnum):
    """The result of an agent's probe."""

    OPEN = "open"  #: its session is open
    STARTING = "starting"  #: its process runs, but its session has not started yet
    CLOSED = "closed"  #: its process runs, but its session will never respond again
    ALIVE = "alive"  #: its process runs; it does not know the method
    SILENT = "silent"  #: no answer in time: frozen, dead, or just gone
    UNSUPPORTED = "unsupported"  #: this LiveKit cannot ask participants
    CONNECTING = "connecting"  #: in the room, but its data channel is not open yet
    WAITING = "waiting"  #: it is warm, and waits for its claim


class Hearing(StrEnum):
    """The result of a warning to an agent."""

    HEARD = "heard"  #: it has answered
    UNKNOWN = "unknown"  #: its process runs, but it does not know the method
    SILENT = "silent"  #: no answer in time: frozen, dead, just gone, or not connected yet
    UNSUPPORTED = "unsupported"  #: this LiveKit cannot call participants


class ClaimAnswer(StrEnum):
    """The result of a claim of a warm agent."""

    CLAIMED = "claimed"  #: it is in the room that it was told
    REFUSED = "refused"  #: it does not come: it has another claim, ends, or could not connect
    UNKNOWN = "unknown"  #: its process runs, but it does not know the method: it does not wait
    SILENT = "silent"  #: no answer in time: frozen, dead, just gone, or too slow
    UNSUPPORTED = "unsupported"  #: this LiveKit cannot call participants


class RoomInfo(Room, frozen=True, kw_only=True):
    departure_timeout_s: int
    #: LiveKit's own count, without agents; it may lag behind.
    participant_count: int = 0


@dataclass(frozen=True, kw_only=True)
class ListedDispatch:
    """A dispatch as LiveKit lists it."""

    id: str
    agent_name: str
    #: By LiveKit's clock.
    created_at: int
    #: Without this service's own attribute.
    briefing: Briefing = UNTOLD
    #: The row's id, if this service created the dispatch.
    row_id: str | None = None
    #: Of the jobs that run. Empty for the first 5 s of a dispatch, even if its agent is in the room.
    agent_identities: tuple[str, ...] = ()
    #: Where LiveKit has the dispatch of a warm agent; None: in the room of the agent.
    holding_room: str | None = None


class LiveKit(Protocol):
    """The calls raise LiveKitUnavailable if LiveKit does not answer, LiveKitRefused if it rejects the call.

    After a LiveKitTimeout, a LiveKitUnavailable, the act may or may not have happened.
    """

    def now(self) -> int:
        """LiveKit's time, from its answers: never ahead of LiveKit's clock, and at most a second behind."""

    async def find_room(self, room_name: str) -> RoomInfo | None:
        """The room; None if LiveKit answers that it does not exist."""

    async def list_rooms(self) -> tuple[RoomInfo, ...]: ...

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        """Create the room with both timeouts at `timeout_s`; an existing room keeps its timeouts."""

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        """The dispatches with an agent name. Slow, and then unavailable, for a room that does not exist."""

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]: ...

    async def list_people(self, room_name: str) -> frozenset[str]:
        """The identities of the people in the room, without those still joining; never to be stored."""

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, briefing: Briefing
    ) -> ListedDispatch:
        """Never restarted by LiveKit itself: this service restarts agents, and both would make two."""

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        """False if LiveKit did not have it. Slow, and then unavailable, for a room that does not exist."""

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        """Remove an agent, or its avatar; False if it was not in the room."""

    async def can_probe(self) -> bool:
        """Whether this LiveKit can ask participants: livekit-server 1.9.2 and later."""

    async def probe(self, room_name: str, identity: str) -> Probe:
        """Probe the agent. Also unavailable for a participant that is not in the room."""

    async def warn(self, room_name: str, identity: str, warning: str) -> Hearing:
        """Send the agent a warning, a JSON object. Also unavailable for one that is not in the room."""

    async def claim(self, room_name: str, identity: str, claim: str) -> ClaimAnswer:
        """Send a waiting agent its claim, a JSON object. Also unavailable for one that is not in."""

    async def announce(self, room_name: str, identity: str) -> bool:
        """Have LiveKit tell everybody in the room of a claimed agent; False if it is not in.

        Of a participant that publishes nothing LiveKit tells up to 3 s later by itself.
        """

    async def delete_room(self, room_name: str) -> bool:
        """Close a room, even with participants in it; False if it does not exist."""


#: Whom a session may be linked to (livekit-agents, voice/room_io/types.py, DEFAULT_PARTICIPANT_KINDS).
_LINKED_KINDS = frozenset({"STANDARD", "SIP", "CONNECTOR"})


#: Calls by telephone: LiveKit's SIP service, and its connectors for WhatsApp and Twilio.
_PHONE_KINDS = frozenset({"SIP", "CONNECTOR"})


class Permission(Protocol):
    agent: bool
    recorder: bool


#: The id of a warm agent is a row's.
_LONGEST_HOLDING_ROOM = len(HOLDING_PREFIX) + 32


def _holding_room_in(attributes: Mapping[str, str]) -> str | None:
    name = attributes.get(HOLDING_ROOM_ATTRIBUTE, "")
    return name if is_holding_room(name) and len(name) <= _LONGEST_HOLDING_ROOM else None


def make_participant(
    sid: str, identity: str, kind: str, attributes: Mapping[str, str], joined_ms: int, permission: Permission
) -> Participant:
    """A participant of LiveKit's (livekit-server, rtc/participant.go, IsDependent)."""
    joined_at = joined_ms * 1_000 or None
    if on_behalf_of := attributes.get(_ON_BEHALF_ATTRIBUTE):
        return Participant(
            sid=sid,
            kind=ParticipantKind.DEPENDENT,
            identity=identity,
            joined_at=joined_at,
            on_behalf_of=on_behalf_of,
        )
    if kind == "AGENT" or permission.agent:
        state = attributes.get(_STATE_ATTRIBUTE)
        return Participant(
            sid=sid,
            kind=ParticipantKind.AGENT,
            identity=identity,
            agent_name=attributes.get("lk.agent_name") or attributes.get("lk.agent.name"),
            joined_at=joined_at,
            is_preparing=state == "initializing",
            has_session=state not in (None, "", "initializing"),
            leaving=attributes.get(LEAVING_ATTRIBUTE),
            remembers=attributes.get(MEMORY_ATTRIBUTE) == "on",
            holding_room=_holding_room_in(attributes),
        )
    is_dependent = kind == "EGRESS" or permission.recorder
    other = ParticipantKind.DEPENDENT if is_dependent else ParticipantKind.PERSON
    return Participant(
        sid=sid,
        kind=other,
        identity=identity if kind in _LINKED_KINDS else None,
        is_phone=kind in _PHONE_KINDS,
        joined_at=joined_at,
    )


class Told(Protocol):
    """A message of LiveKit's about a dispatch."""

    metadata: str
    deployment: str

    @property
    def attributes(self) -> Mapping[str, str]: ...


def briefing_of(message: Told) -> Briefing:
    """What a dispatch of LiveKit's tells its job, without this service's own attributes."""
    attributes = {name: text for name, text in message.attributes.items() if name not in _OWN_ATTRIBUTES}
    return Briefing(
        metadata=message.metadata,
        attributes=msgspec.json.encode(attributes).decode() if attributes else "",
        deployment=message.deployment,
    )
