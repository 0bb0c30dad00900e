"""Disputes: webhooks about an instance of a room that LiveKit does not have."""

import logging
from collections import OrderedDict

from app.lifecycle import SECOND_US
from app.livekit.interface import RoomInfo
from app.metrics.counters import Counters
from app.state.changes import RoomEvent, RoomEventKind

logger = logging.getLogger(__name__)

#: More than the instances that other LiveKits have at once; one that is forgotten is asked about again.
_MOST_KNOWN = 10_000
#: The last webhooks of an instance may be sent when the next one has begun already.
_OVERLAP_US = 10 * SECOND_US


class Disputes:
    """Remembers which instances are not LiveKit's, so that it is asked about each only once."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        #: By room sid; the oldest is forgotten first.
        self._known: OrderedDict[str, None] = OrderedDict()

    def is_known(self, event: RoomEvent) -> bool:
        """Whether the event is about an instance that LiveKit did not have; it is counted if so."""
        if event.room.sid not in self._known:
            return False
        self._counters.room_conflicts[event.kind] += 1
        return True

    def judge(self, event: RoomEvent, room: RoomInfo | None) -> None:
        """Count and log the event, unless it fits what LiveKit reports; None: no such room."""
        if room is None or not _contradicts(event, room):
            return
        self._counters.room_conflicts[event.kind] += 1
        if event.room.sid in self._known:
            # It was asked about while the first answer was on its way.
            return
        if event.room.sid != room.sid:
            self._known[event.room.sid] = None
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        logger.warning(
            "A webhook contradicts LiveKit and was ignored; does a second LiveKit post to this service?",
            extra={
                "action": "room_conflict",
                "room": event.room_name,
                "event": event.kind,
                "webhook_room_sid": event.room.sid,
                "livekit_room_sid": room.sid,
            },
        )


def _contradicts(event: RoomEvent, room: RoomInfo) -> bool:
    """Whether the event cannot be one of the LiveKit that reports `room`, not even a late one."""
    if event.room.sid == room.sid:
        return event.kind is RoomEventKind.FINISHED
    return event.room.is_newer_than(room) or (event.sent_at or 0) > room.created_at + _OVERLAP_US
