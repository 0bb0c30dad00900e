"""One room as a call for an agent needs it."""

from sqlalchemy import Connection, bindparam, select

from app.database.loading import dispatch_of
from app.database.tables import dispatches, rooms
from app.state.presence import TrackedRoom
from app.state.views import RoomView

# Built once: every call for an agent and every check reads them.
_LAST_INSTANCE = select(*(rooms.c[name] for name in TrackedRoom.__struct_fields__)).where(
    rooms.c.name == bindparam("room_name")
)
_OPEN_DISPATCHES = select(dispatches).where(
    dispatches.c.room_name == bindparam("room_name"), dispatches.c.ended_at.is_(None)
)


def room_view(connection: Connection, room_name: str) -> RoomView:
    wanted = {"room_name": room_name}
    room = connection.execute(_LAST_INSTANCE, wanted).mappings().one_or_none()
    found = connection.execute(_OPEN_DISPATCHES, wanted)
    return RoomView.of(TrackedRoom(**room) if room else None, map(dispatch_of, found))
