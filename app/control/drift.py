"""Which of all rooms need a look: what the tables know of each, and the little that LiveKit says of all."""

from zlib import crc32

from app.lifecycle import SECOND_US, State
from app.livekit.interface import RoomInfo
from app.state.presence import Participant, ParticipantKind
from app.state.views import KnownRoom

#: A room that nothing points to is looked at in one round out of so many.
ROLLING_ROUNDS = 10
YOUNG_US = 120 * SECOND_US


def needs_inspection(room: RoomInfo, known: KnownRoom | None, round_number: int, now: int) -> bool:
    """Whether the room needs a whole look; `now` is LiveKit's, since the age of a room is.

    LiveKit's count is late and leaves agents out: it only makes a look come sooner. A room whose
    dispatches all have an agent in is not suspect, but its participants are compared.
    """
    if known is None or known.sid != room.sid or known.agents != _tracked_agents(known):
        return True
    if any(row.state not in (State.ACTIVE, State.IDLE) for row in known.rows):
        return True
    if not known.rows and now - room.created_at < YOUNG_US:
        # Others dispatch agents into new rooms; into old ones mostly by way of us.
        return True
    in_turn = crc32(room.name.encode()) % ROLLING_ROUNDS == round_number % ROLLING_ROUNDS
    return in_turn or room.participant_count != len(known.people)


def matches(known: KnownRoom, participants: tuple[Participant, ...]) -> bool:
    """Whether the tables have just those in the room whom LiveKit lists."""
    people = {p.sid for p in participants if p.kind is ParticipantKind.PERSON}
    agents = {p.identity for p in participants if p.kind is ParticipantKind.AGENT}
    return people == known.people and agents == known.agents


def _tracked_agents(known: KnownRoom) -> frozenset[str]:
    return frozenset(row.agent_identity for row in known.rows if row.agent_identity)
