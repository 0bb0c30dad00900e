"""Who has left, as LiveKit reported it: LiveKit's lists may name one until the room closes."""

from collections.abc import Collection

from sqlalchemy import Select, or_, select

from app.database.tables import participants
from app.state.presence import MISSED


def departed(sids: Collection[str]) -> Select[tuple[str]]:
    """Those of these participants whose leave a webhook reported."""
    left, reason = participants.c.left_at, participants.c.leave_reason
    is_reported = or_(reason.is_(None), reason != MISSED)
    return select(participants.c.sid).where(participants.c.sid.in_(sids), left.is_not(None), is_reported)
