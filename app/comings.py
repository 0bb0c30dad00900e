"""What the log says of people who come and go: a line for what one commit brought, not for each of them."""

import asyncio
import logging
from collections.abc import Sequence

from app.state.changes import RoomEvent, RoomEventKind

logger = logging.getLogger(__name__)


class Comings:
    """Not who: the rooms say that people come and go, which is all that is asked at night."""

    def __init__(self) -> None:
        self._events: list[RoomEvent] = []

    def note(self, event: RoomEvent) -> None:
        """It was committed; the line is written once whatever was committed with it has been noted too."""
        if not self._events:
            asyncio.get_running_loop().call_soon(self._write)
        self._events.append(event)

    def _write(self) -> None:
        events, self._events = self._events, []
        if came := [event for event in events if event.kind is RoomEventKind.JOINED]:
            logger.info("Somebody came into a room", extra=_fields(came))
        if left := [event for event in events if event.kind is RoomEventKind.LEFT]:
            logger.info("Somebody left a room", extra=_fields(left))


def _fields(events: Sequence[RoomEvent]) -> dict[str, object]:
    fields: dict[str, object] = {"action": "connection"}
    if len(events) > 1:
        return fields | {"count": len(events)}
    (event,) = events
    return fields | {"room": event.room_name} | ({"reason": event.reason} if event.reason else {})
