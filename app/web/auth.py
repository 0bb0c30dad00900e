"""Who asks: LiveKit's JWTs verified with any of our keys, and API keys."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.errors import Forbidden, Unauthenticated
from app.livekit.jwt import verify_jwt


@dataclass(frozen=True, kw_only=True)
class Caller:
    #: The room that a participant's token is for; None for an API key, which may ask about any.
    room_name: str | None = None
    #: Whose token it is, as far as it says.
    identity: str = ""
    #: Which of the configured keys it is; None for a participant.
    api_key: int | None = None

    @property
    def is_operator(self) -> bool:
        return self.api_key is not None

    def require_room(self, room_name: str) -> None:
        """Raises: Forbidden: when the caller is a participant of another room."""
        if not self.is_operator and self.room_name != room_name:
            raise Forbidden("this token is for another room")

    def require_operator(self) -> None:
        """Raises: Forbidden: when the caller is a participant and not the holder of an API key."""
        if not self.is_operator:
            raise Forbidden("this takes an API key, not a participant's token")


class ApiKeys:
    def __init__(self, keys: Iterable[str]) -> None:
        # Digests are of one length, so that comparing takes as long for every guess.
        self._digests = tuple(_digest(key) for key in keys)

    def find(self, guess: str) -> int | None:
        """Which of the keys it is, by its place; None: it is none of them."""
        digest = _digest(guess)
        # All are compared, whichever matches: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return matches.index(True) if any(matches) else None


class Authenticator:
    def __init__(self, keys: Mapping[str, str], api_keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._api_keys = ApiKeys(api_keys)

    def identify(self, authorization: str | None) -> Caller:
        """Who holds what stands in the Authorization header.

        Raises:
            Unauthenticated: nothing, or nothing that is good, stands there.
            Forbidden: a participant's token that does not let its holder join a room.
        """
        scheme, _, credential = (authorization or "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            raise Unauthenticated("send Authorization: Bearer <participant token or API key>")
        api_key = self._api_keys.find(credential)
        if api_key is not None:
            return Caller(api_key=api_key)
        claims = verify_jwt(credential, self._keys)
        grants = claims.get("video")
        room = grants.get("room") if isinstance(grants, dict) else None
        if not isinstance(grants, dict) or grants.get("roomJoin") is not True or not isinstance(room, str):
            raise Forbidden("the token does not grant roomJoin for a room")
        if not room:
            raise Forbidden("the token names no room")
        return Caller(room_name=room, identity=str(claims.get("sub", "")))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
