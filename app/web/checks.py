"""Checks of single fields of requests that their types cannot express."""

import re
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from app.errors import Invalid

#: LiveKit's limit (livekit-server, config.go, MaxRoomNameLength).
_ROOM_NAME_BYTES = 256
#: Of metadata, see lifecycle.Briefing.
METADATA_BYTES = 16 * 1024

#: Files of a system's database that are no zones, and folders with copies of all zones.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})
_COPIES = ("posix/", "right/")
_MOST_OFFSET_MIN = 14 * 60


def check_room_name(name: str, narrowed: re.Pattern[str] | None = None) -> str:
    """Raises: Invalid: LiveKit does not take a name of this length, or it is not one of `narrowed`."""
    if len(name.encode()) > _ROOM_NAME_BYTES:
        raise Invalid(f"The room name exceeds {_ROOM_NAME_BYTES} bytes in UTF-8 - at `$.roomName`")
    if narrowed and not narrowed.fullmatch(name):
        raise Invalid("The room name does not match ROOM_NAME_PATTERN - at `$.roomName`")
    return name


def check_timezone(name: str | None, warnings: list[str]) -> str | None:
    """The IANA time zone; anything else costs nobody an agent: None, and a line in `warnings`."""
    if name is None:
        return None
    if not _is_timezone(name):
        warnings.append("timezone is not an IANA time zone name and was left out")
        return None
    return name


def _is_timezone(name: str) -> bool:
    if name in _NO_ZONES or name.startswith(_COPIES):
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def check_timezone_offset(minutes: float | None, warnings: list[str]) -> int | None:
    """Minutes; what no time zone can have is None, and a line in `warnings`."""
    if minutes is None:
        return None
    if not float(minutes).is_integer() or abs(minutes) > _MOST_OFFSET_MIN:
        warnings.append("timezoneOffset is not a whole number from -840 to 840 and was left out")
        return None
    return int(minutes)


def check_metadata(metadata: str | dict[str, Any] | None) -> str | None:
    """Raises: Invalid: it is too long."""
    if metadata is None:
        return None
    text = metadata if isinstance(metadata, str) else msgspec.json.encode(metadata).decode()
    if len(text.encode()) > METADATA_BYTES:
        raise Invalid(f"The metadata exceeds {METADATA_BYTES} bytes - at `$.metadata`")
    return text
