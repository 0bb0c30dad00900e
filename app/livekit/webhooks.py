"""LiveKit's webhooks: verification, and translation into room events."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import msgspec
from livekit import api

from app.config.settings import Keypair, Secrets
from app.errors import Malformed, Unauthenticated
from app.lifecycle import SECOND_US
from app.livekit.interface import make_participant
from app.livekit.jwt import verify_jwt, verify_usual
from app.state.changes import RoomEvent, RoomEventKind
from app.state.presence import Participant, Room

_KINDS: Mapping[str, RoomEventKind] = MappingProxyType(
    {
        "participant_joined": RoomEventKind.JOINED,
        "participant_left": RoomEventKind.LEFT,
        # LiveKit sends this instead of a leave for a participant that never became active.
        "participant_connection_aborted": RoomEventKind.LEFT,
        "room_started": RoomEventKind.STARTED,
        "room_finished": RoomEventKind.FINISHED,
    }
)

#: Events that LiveKit sends and this service does not need (livekit/protocol, webhook/events.go).
IGNORED_EVENTS = frozenset(
    {
        "track_published",
        "track_unpublished",
        "egress_started",
        "egress_updated",
        "egress_ended",
        "ingress_started",
        "ingress_ended",
        "agent_job_started",
        "agent_job_ended",
    }
)
KNOWN_EVENTS = frozenset(_KINDS) | IGNORED_EVENTS

#: In the year 2286. Up to it seconds have the ten digits of `stored_id`, and microseconds fit into 64 bits.
_END_OF_TIME_S = 10**10

#: As LiveKit does it (livekit/protocol, webhook/url_notifier.go).
_SIGNED_FOR = timedelta(minutes=5)


class _Room(msgspec.Struct, rename="camel"):
    sid: str = ""
    name: str = ""
    #: 64-bit numbers are strings in protobuf's JSON.
    creation_time: str | int = 0
    creation_time_ms: str | int = 0


class _Permission(msgspec.Struct):
    agent: bool = False
    recorder: bool = False


class _Participant(msgspec.Struct, rename="camel"):
    sid: str = ""
    identity: str = ""
    kind: str | int = "STANDARD"
    permission: _Permission | None = None
    attributes: dict[str, str] = {}
    joined_at: str | int = 0
    joined_at_ms: str | int = 0
    disconnect_reason: str | int = "UNKNOWN_REASON"


class WebhookBody(msgspec.Struct, rename="camel"):
    event: str = ""
    id: str = ""
    created_at: str | int = 0
    room: _Room | None = None
    participant: _Participant | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A verified webhook; `event` None if it does not report presence."""

    name: str
    event: RoomEvent | None
    #: By LiveKit's clock, in whole seconds; None if not reported.
    sent_at: int | None = None

    @property
    def known_name(self) -> str:
        """The name, if it is one of LiveKit's: whoever has the key could send any number of others."""
        return self.name if self.name in KNOWN_EVENTS else "unknown"


_decoder = msgspec.json.Decoder(WebhookBody)


def signed_digest(authorization: str | None, keys: Secrets) -> bytes:
    """Return the SHA-256 of the body that the Authorization header signs with one of `keys`.

    Raises:
        Unauthenticated: the header is missing, is not valid now, or signs no body.
    """
    if not authorization:
        raise Unauthenticated("The Authorization header with LiveKit's signature is missing")
    # LiveKit sends the bare token; some proxies and tools add the scheme.
    token = authorization.removeprefix("Bearer ").strip()
    return digest_of(verify_jwt(token, keys))


def digest_of(claims: Mapping[str, Any]) -> bytes:
    """The SHA-256 of the body that a token signs.

    Raises:
        Unauthenticated: it signs none.
    """
    try:
        return base64.b64decode(claims["sha256"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise Unauthenticated("The token does not sign a body") from error


def check_digest(body: bytes, digest: bytes) -> None:
    """Raises: Unauthenticated: the digest is that of another body."""
    if not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise Unauthenticated("The token signs another body")


def read_usual(authorization: str, body: bytes, keys: Secrets) -> Webhook | None:
    """Verify and decode a webhook as LiveKit sends it; None if it is another, or not valid."""
    claims = verify_usual(authorization.removeprefix("Bearer "), keys)
    if claims is None:
        return None
    try:
        check_digest(body, digest_of(claims))
        return translate(body)
    except (Unauthenticated, Malformed):
        return None


def sign(body: bytes, keypair: Keypair) -> str:
    """Make the Authorization header that LiveKit sends with this body, valid for five minutes."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return api.AccessToken(keypair.key, keypair.secret).with_sha256(digest).with_ttl(_SIGNED_FOR).to_jwt()


def translate(body: bytes) -> Webhook:
    """Decode a verified body.

    Raises:
        Malformed: the body does not have the form of LiveKit's webhooks.
    """
    try:
        decoded = _decoder.decode(body)
        if not decoded.event:
            raise Malformed("The body has no event name")
        created_at_s = _seconds(decoded.created_at)
        return Webhook(
            name=decoded.event,
            event=_room_event(decoded, created_at_s),
            sent_at=created_at_s * SECOND_US or None,
        )
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed("The body is not a LiveKit webhook") from error


def stored_id(created_at_s: int, event_id: str) -> str:
    """The id under which a webhook is stored; it sorts by time."""
    return f"{created_at_s:010}.{event_id}"


def _room_event(body: WebhookBody, created_at_s: int) -> RoomEvent | None:
    kind = _KINDS.get(body.event)
    if kind is None or body.room is None or not (body.room.name and body.room.sid and body.id):
        return None
    event_id = stored_id(created_at_s, body.id)
    for text, limit in ((body.room.name, 256), (body.room.sid, 64), (event_id, 64)):
        _check_text(text, limit)
    room = Room(
        name=body.room.name,
        sid=body.room.sid,
        created_at=_milliseconds(body.room.creation_time_ms, body.room.creation_time) * 1_000,
    )
    if kind in (RoomEventKind.STARTED, RoomEventKind.FINISHED):
        return RoomEvent(event_id=event_id, kind=kind, room=room)
    if body.participant is None or not body.participant.sid:
        return None
    reason = str(body.participant.disconnect_reason)
    _check_text(reason, 64)
    return RoomEvent(
        event_id=event_id,
        kind=kind,
        room=room,
        participant=_participant(body.participant),
        reason=reason if kind is RoomEventKind.LEFT else None,
        sent_at=created_at_s * SECOND_US or None,
    )


def _participant(info: _Participant) -> Participant:
    _check_text(info.sid, 64)
    _check_text(info.identity, 256)
    joined_ms = _milliseconds(info.joined_at_ms, info.joined_at)
    permission = info.permission or _Permission()
    participant = make_participant(
        info.sid, info.identity, str(info.kind), info.attributes, joined_ms, permission
    )
    _check_text(participant.agent_name or "", 256)
    return participant


def _check_text(text: str, limit: int) -> None:
    """Postgres rejects NUL, and neither database stores more than its column's length."""
    if len(text) > limit or "\0" in text:
        raise ValueError("the text is too long or contains NUL")


def _milliseconds(written_ms: str | int, written_s: str | int) -> int:
    """A time since 1970; older servers report it in seconds alone."""
    return _time(written_ms, _END_OF_TIME_S * 1_000) or _seconds(written_s) * 1_000


def _seconds(written: str | int) -> int:
    return _time(written, _END_OF_TIME_S)


def _time(written: str | int, end: int) -> int:
    """Read a time that is written as a number or a string; a later one does not fit a column."""
    time = int(written)
    if not 0 <= time < end:
        raise ValueError("the time is out of range")
    return time
