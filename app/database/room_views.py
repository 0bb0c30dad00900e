"""One room as a call for an agent needs it."""

from sqlalchemy import Connection, select

from app.database.loading import dispatch_of
from app.database.tables import dispatches, rooms
from app.state.presence import TrackedRoom
from app.state.views import RoomView

_LAST_INSTANCE = select(*(rooms.c[name] for name in TrackedRoom.__struct_fields__))
_OPEN_DISPATCHES = select(dispatches).where(dispatches.c.ended_at.is_(None))


def room_view(connection: Connection, room_name: str) -> RoomView:
    room = connection.execute(_LAST_INSTANCE.where(rooms.c.name == room_name)).mappings().one_or_none()
    found = connection.execute(_OPEN_DISPATCHES.where(dispatches.c.room_name == room_name))
    return RoomView.of(TrackedRoom(**room) if room else None, map(dispatch_of, found))
