"""Vacancies: the rooms with a dispatch whose agent is not in, as far as the tables know."""

from sqlalchemy import Select, exists, select

from app.database.tables import dispatches, participants
from app.lifecycle import State
from app.state.presence import ParticipantKind

_AGENT_IS_IN = exists().where(
    participants.c.room_sid == dispatches.c.room_sid,
    participants.c.identity == dispatches.c.agent_identity,
    participants.c.kind == ParticipantKind.AGENT,
    participants.c.left_at.is_(None),
)


def vacant_rooms(room_name: str | None) -> Select[tuple[str]]:
    """`room_name` None: of all rooms."""
    has_agent = dispatches.c.state.in_((State.ACTIVE, State.IDLE))
    query = select(dispatches.c.room_name).where(dispatches.c.ended_at.is_(None), has_agent, ~_AGENT_IS_IN)
    return query if room_name is None else query.where(dispatches.c.room_name == room_name)
