"""The room and the identity of one browser: made up once, signed, and known again for a day.

For frontends that name neither. Without it each of their refreshes would be another person in another room,
with another agent.
"""

import base64
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from app.clock import Clock
from app.errors import LiveKitRefused, LiveKitUnavailable
from app.lifecycle import SECOND_US
from app.livekit.interface import LiveKit

#: From when the room was made up, however often it is visited: a copied cookie dies with it.
MAX_AGE_S = 86_400
#: How far the clocks of two replicas may be apart.
_LEEWAY_S = 60

# The format's version is in what is signed, and in the key.
_FORM = re.compile(r"(1\.(\d{1,12})\.([0-9a-f]{16})\.([0-9a-f]{16}))\.([\w-]{43})", re.ASCII)
_PURPOSE = b"agent-lifecycle session room 1"


@dataclass(frozen=True, kw_only=True)
class SessionRoom:
    """Both names are random and ours: nothing that a caller has named ever gets into a cookie."""

    room_name: str
    identity: str


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who comes into which room; `cookie` is what the browser is to keep, None when it has it."""

    room_name: str
    identity: str
    cookie: str | None = None


class SessionRooms:
    def __init__(self, livekit: LiveKit, clock: Clock, secrets: Iterable[str]) -> None:
        """`secrets` are LiveKit's: the first signs, all are believed."""
        self._livekit = livekit
        self._clock = clock
        self._keys = tuple(hmac.digest(secret.encode(), _PURPOSE, "sha256") for secret in secrets)

    async def visit(self, cookie: str | None, room_name: str | None, identity: str | None) -> Visit:
        """Fill in what the caller has not named; a cookie that is not ours, or too old, is none."""
        if room_name and identity:
            return Visit(room_name=room_name, identity=identity)
        known = self._read(cookie) if cookie else None
        if known is None:
            made, signed = self._make()
            return Visit(
                room_name=room_name or made.room_name, identity=identity or made.identity, cookie=signed
            )
        room_name = room_name or known.room_name
        return Visit(room_name=room_name, identity=identity or await self._free_identity(known, room_name))

    async def _free_identity(self, known: SessionRoom, room_name: str) -> str:
        """This browser's identity for a tab; LiveKit puts out the first of two tabs with the same one.

        A refresh is back under the identity that has just left. A second tab finds it taken, and gets the
        next one, for as long as the first is there.
        """
        try:
            taken = await self._livekit.list_people(room_name)
        except (LiveKitUnavailable, LiveKitRefused):
            # A stranger's name puts nobody out.
            return _random_identity()
        candidates = (known.identity if tab == 1 else f"{known.identity}-{tab}" for tab in count(1))
        return next(identity for identity in candidates if identity not in taken)

    def _make(self) -> tuple[SessionRoom, str]:
        room, identity = secrets.token_hex(8), secrets.token_hex(8)
        text = f"1.{self._clock.now() // SECOND_US}.{room}.{identity}"
        return _session(room, identity), f"{text}.{_sign(text, self._keys[0])}"

    def _read(self, cookie: str) -> SessionRoom | None:
        found = _FORM.fullmatch(cookie)
        if found is None:
            return None
        text, made_at_s, room, identity, signature = found.groups()
        age_s = self._clock.now() // SECOND_US - int(made_at_s)
        # All are compared, whichever matches: the time taken tells nothing.
        signed = sum(hmac.compare_digest(signature, _sign(text, key)) for key in self._keys)
        return _session(room, identity) if signed and -_LEEWAY_S <= age_s < MAX_AGE_S else None


def _session(room: str, identity: str) -> SessionRoom:
    return SessionRoom(room_name=f"room-{room}", identity=f"user-{identity}")


def _random_identity() -> str:
    return f"user-{secrets.token_hex(8)}"


def _sign(text: str, key: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).rstrip(b"=").decode()
