"""The room and the identity of one browser: made up once, signed, and known again for a day.

For frontends that name neither. Without it each of their refreshes would be another person in another room,
with another agent.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from aiohttp import web

from app.clock import Clock
from app.errors import LiveKitRefused, LiveKitUnavailable
from app.lifecycle import SECOND_US
from app.livekit.interface import LiveKit
from app.web.cookies import cookie_name
from app.web.signing import read_signed, sign

COOKIE_NAME = "agent_lifecycle_room"
#: From when the room was made up, however often it is visited: a copied cookie dies with it.
MAX_AGE_S = 86_400
#: How far the clocks of two replicas may be apart.
_LEEWAY_S = 60

# With the version of the format: whoever changes what is signed changes the number.
_PURPOSE = "agent-lifecycle session room 2"


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
        self._secrets = [secret.encode() for secret in secrets]

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
        signed = sign([self._now_s(), room, identity], self._secrets[0], _PURPOSE)
        return _session(room, identity), signed

    def _read(self, cookie: str) -> SessionRoom | None:
        signed = read_signed(cookie, self._secrets, _PURPOSE)
        if signed is None:
            return None
        made_at_s, room, identity = signed
        return _session(room, identity) if -_LEEWAY_S <= self._now_s() - made_at_s < MAX_AGE_S else None

    def _now_s(self) -> int:
        return self._clock.now() // SECOND_US


def _session(room: str, identity: str) -> SessionRoom:
    return SessionRoom(room_name=f"room-{room}", identity=f"user-{identity}")


def _random_identity() -> str:
    return f"user-{secrets.token_hex(8)}"


def may_have_cookie(request: web.Request, origins: Sequence[str]) -> bool:
    """Whether the page that asks may have a cookie: one of our own origin, or of a configured one.

    `*` is not enough: it lets every page ask, and no browser lets all of them have cookies. Who is no
    browser, such as the backend that asks for a page, says nothing of a site.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site in ("same-origin", "none") or request.headers.get("Origin") in origins


def attach_cookie(response: web.Response, request: web.Request, cookie: str, *, secure: bool) -> None:
    """`secure`: whether the browser uses https."""
    is_cross_site = request.headers.get("Sec-Fetch-Site") == "cross-site"
    secure = secure or is_cross_site
    path = "/" if secure else request.path
    attributes = [f"{cookie_name(COOKIE_NAME, secure=secure)}={cookie}", f"Path={path}"]
    attributes += [f"Max-Age={MAX_AGE_S}", "HttpOnly", *(["Secure"] if secure else [])]
    # Browsers that refuse cookies of other sites take one that they keep apart for each page's site.
    attributes += ["SameSite=None", "Partitioned"] if is_cross_site else ["SameSite=Lax"]
    # By hand: Python knows `Partitioned` from 3.14 on.
    response.headers.add("Set-Cookie", "; ".join(attributes))
