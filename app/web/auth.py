"""Authentication: participants by LiveKit tokens signed with any of our keys, operators by API keys."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from app.config.settings import Secrets
from app.errors import Forbidden, Unauthenticated
from app.livekit.jwt import LEEWAY_S, verify_jwt
from app.livekit.webhooks import digest_of

#: Kinds of participants that are programs. LiveKit takes a kind that it does not know for a standard one.
_PROGRAMS = frozenset({"AGENT", "BRIDGE", "EGRESS", "INGRESS"})
#: Grants of LiveKit's own programs, and of whoever watches unseen.
_NOT_FOR_PEOPLE = ("agent", "recorder", "hidden")


@dataclass(frozen=True, kw_only=True)
class Caller:
    #: The room of a participant's token; None for an API key, which is good for any room.
    room_name: str | None = None
    #: The identity in a participant's token.
    identity: str = ""
    #: The index of the API key in the configuration; None for a participant.
    api_key: int | None = None

    @property
    def is_operator(self) -> bool:
        return self.api_key is not None

    def require_room(self, room_name: str) -> None:
        """Raises: Forbidden: the caller is a participant of another room."""
        if not self.is_operator and self.room_name != room_name:
            raise Forbidden("The token is for another room")

    def require_operator(self) -> None:
        """Raises: Forbidden: the caller is a participant."""
        if not self.is_operator:
            raise Forbidden("This endpoint requires an API key, not a participant token")


CALLER = web.RequestKey("caller", Caller)


class ApiKeys:
    def __init__(self, keys: Iterable[str]) -> None:
        # Digests have one length, so that comparing takes equally long for every guess.
        self._digests = tuple(_digest(key) for key in keys)

    def find(self, guess: str) -> int | None:
        """The index of the key; None if it is none of them."""
        digest = _digest(guess)
        # Compared with every key, whichever matches: the time reveals nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return matches.index(True) if any(matches) else None


class Authenticator:
    def __init__(self, keys: Secrets, api_keys: tuple[str, ...], *, member_token_max_days: int = 0) -> None:
        """`member_token_max_days`: of a participant's token; 0: no limit."""
        self._keys = keys
        self._api_keys = ApiKeys(api_keys)
        self._max_days = member_token_max_days

    def identify(self, authorization: str | None) -> Caller:
        """The caller, by the Authorization header.

        Raises:
            Unauthenticated: the credentials are missing or invalid.
            Forbidden: a participant's token does not let a person join a room, or does so for too long.
        """
        scheme, _, credential = (authorization or "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            raise Unauthenticated("Send Authorization: Bearer <participant token or API key>")
        api_key = self._api_keys.find(credential)
        if api_key is not None:
            return Caller(api_key=api_key)
        claims = verify_jwt(credential, self._keys)
        grants = claims.get("video")
        room = grants.get("room") if isinstance(grants, dict) else None
        if not isinstance(grants, dict) or grants.get("roomJoin") is not True or not isinstance(room, str):
            raise Forbidden("The token does not grant roomJoin for a room")
        if not room:
            raise Forbidden("The token names no room")
        identity = _person(claims, grants)
        self._check_lifetime(claims)
        return Caller(room_name=room, identity=identity)

    def worker_digest(self, authorization: str | None) -> bytes:
        """The SHA-256 of the body that a worker has signed, by the Authorization header.

        The token is the one with which a worker registers with LiveKit, and signs a body as LiveKit does.

        Raises:
            Unauthenticated: the signature is missing or invalid.
            Forbidden: it is not a worker's.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("Send Authorization: Bearer <token of a worker that signs the body>")
        claims = verify_jwt(token.strip(), self._keys)
        grants = claims.get("video")
        # The token of an agent in a room has the grant as well.
        if not isinstance(grants, dict) or grants.get("agent") is not True or grants.get("roomJoin"):
            raise Forbidden("The token is not a worker's: it must grant agent, and not roomJoin")
        return digest_of(claims)

    def _check_lifetime(self, claims: Mapping[str, Any]) -> None:
        """Raises: Forbidden: the token is valid for longer than a participant's may be."""
        latest = datetime.now(UTC) + timedelta(days=self._max_days, seconds=LEEWAY_S)
        if self._max_days and int(claims["exp"]) > latest.timestamp():
            raise Forbidden(f"The token is valid for more than {self._max_days} days (MEMBER_TOKEN_MAX_DAYS)")


def _person(claims: Mapping[str, Any], grants: Mapping[str, Any]) -> str:
    """The identity of the person whose token it is.

    Raises:
        Forbidden: it is a program's, or nobody's.
    """
    kind, identity = claims.get("kind", ""), claims.get("sub")
    if not isinstance(kind, str):
        raise Forbidden("The token's kind of participant is not a text")
    if kind.upper() in _PROGRAMS:
        raise Forbidden(f"The token is for a participant of kind {kind.lower()}, which is no person")
    for grant in _NOT_FOR_PEOPLE:
        if grants.get(grant):
            raise Forbidden(f"The token grants {grant}, which no person's token does")
    if not isinstance(identity, str) or not identity:
        raise Forbidden("The token has no identity of a participant in sub")
    return identity


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
