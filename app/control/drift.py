"""Drift: which rooms to inspect, by comparing the tables with LiveKit's list of rooms."""

from zlib import crc32

from app.lifecycle import SECOND_US, State
from app.livekit.interface import RoomInfo
from app.state.presence import Participant, ParticipantKind
from app.state.views import KnownRoom

#: A room without a sign of drift is inspected in one of so many rounds.
ROLLING_ROUNDS = 10
YOUNG_US = 120 * SECOND_US
#: The states that only an event changes: with the agent in the room, and without any.
_SETTLED = (State.ACTIVE, State.IDLE, State.ON_HOLD)


def needs_inspection(room: RoomInfo, known: KnownRoom | None, round_number: int, now: int) -> bool:
    """Whether the room needs a full inspection; `now` is by LiveKit's clock, as the age of a room is.

    LiveKit's participant count is late and omits agents, so it can only cause an early inspection. A room
    whose dispatches all have their agent in it, or are on hold, needs none; its participants are compared.
    """
    if known is None or known.sid != room.sid or known.agents != _tracked_agents(known):
        return True
    if any(row.state not in _SETTLED for row in known.rows):
        return True
    if not known.rows and now - room.created_at < YOUNG_US:
        # Other programs dispatch agents mostly into new rooms.
        return True
    in_turn = crc32(room.name.encode()) % ROLLING_ROUNDS == round_number % ROLLING_ROUNDS
    return in_turn or room.participant_count != len(known.people)


def matches(known: KnownRoom, participants: tuple[Participant, ...]) -> bool:
    """Whether tables and LiveKit have the same participants in the room."""
    people = {p.sid for p in participants if p.kind is ParticipantKind.PERSON}
    agents = {p.identity for p in participants if p.kind is ParticipantKind.AGENT}
    return people == known.people and agents == known.agents


def _tracked_agents(known: KnownRoom) -> frozenset[str]:
    return frozenset(row.agent_identity for row in known.rows if row.agent_identity)
