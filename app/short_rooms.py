"""The warning, once, that somebody makes rooms which close before the TTL of their agent is over."""

import logging

from app.livekit.interface import RoomInfo

logger = logging.getLogger(__name__)


class ShortRooms:
    def __init__(self, wanted_s: int) -> None:
        self._wanted_s = wanted_s
        self._warned = False

    def look_at(self, room: RoomInfo) -> None:
        if room.departure_timeout_s >= self._wanted_s or self._warned:
            return
        self._warned = True
        logger.warning(
            "A room was made by others to close before the TTL of its agent; more may be",
            extra={
                "action": "short_room",
                "room": room.name,
                "departure_timeout_s": room.departure_timeout_s,
                "wanted_s": self._wanted_s,
            },
        )
