"""LiveKit's webhooks: is it LiveKit's, and what does it say about who is in a room."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import msgspec
from livekit import api

from app.config.settings import Keypair
from app.errors import Malformed, Unauthenticated
from app.lifecycle import SECOND_US
from app.livekit.interface import LEAVING_ATTRIBUTE, agent_name_of, kind_of
from app.livekit.jwt import verify_jwt
from app.state.changes import RoomEvent, RoomEventKind
from app.state.presence import Participant, ParticipantKind, Room

_KINDS: Mapping[str, RoomEventKind] = MappingProxyType(
    {
        "participant_joined": RoomEventKind.JOINED,
        "participant_left": RoomEventKind.LEFT,
        # Someone who never became active: LiveKit sends this in place of a leave.
        "participant_connection_aborted": RoomEventKind.LEFT,
        "room_started": RoomEventKind.STARTED,
        "room_finished": RoomEventKind.FINISHED,
    }
)

#: What LiveKit sends today and we have no use for (livekit/protocol, webhook/events.go).
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
    """A webhook that LiveKit has signed; `event` None where it says nothing about who is in."""

    name: str
    event: RoomEvent | None
    #: By LiveKit's clock, which tells whole seconds here; None when it did not say.
    sent_at: int | None = None


_decoder = msgspec.json.Decoder(WebhookBody)


def signed_digest(authorization: str | None, keys: Mapping[str, str]) -> bytes:
    """The SHA-256 of the body that one of our LiveKit's keys has signed, and lately.

    Raises:
        Unauthenticated: the header is missing, not valid now, or signs no body.
    """
    if not authorization:
        raise Unauthenticated("LiveKit signs its webhooks in the Authorization header; there is none")
    # LiveKit sends the token bare; some proxies and tools put the scheme before it.
    token = authorization.removeprefix("Bearer ").strip()
    claimed = verify_jwt(token, keys).get("sha256")
    if not isinstance(claimed, str):
        raise Unauthenticated("the token does not sign a body")
    try:
        return base64.b64decode(claimed, validate=True)
    except ValueError as error:
        raise Unauthenticated("the token does not sign a body") from error


def check_digest(body: bytes, digest: bytes) -> None:
    """Raises: Unauthenticated: it is another body that was signed."""
    if not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise Unauthenticated("the token signs another body")


def sign(body: bytes, keypair: Keypair) -> str:
    """What LiveKit writes into the Authorization header of this body, good for five minutes."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return api.AccessToken(keypair.key, keypair.secret).with_sha256(digest).with_ttl(_SIGNED_FOR).to_jwt()


def translate(body: bytes) -> Webhook:
    """What a verified body says.

    Raises:
        Malformed: it is not a webhook of LiveKit's form.
    """
    try:
        decoded = _decoder.decode(body)
        if not decoded.event:
            raise Malformed("the body names no event")
        created_at_s = _number(decoded.created_at)
        return Webhook(
            name=decoded.event,
            event=_room_event(decoded, created_at_s),
            sent_at=created_at_s * SECOND_US or None,
        )
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed("the body is not a LiveKit webhook") from error


def stored_id(created_at_s: int, event_id: str) -> str:
    """What a webhook with this time and this id is known by; it sorts by the time."""
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
        created_at=_number(body.room.creation_time_ms) * 1_000
        or _number(body.room.creation_time) * 1_000_000,
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
    )


def _participant(participant: _Participant) -> Participant:
    _check_text(participant.sid, 64)
    _check_text(participant.identity, 256)
    permission = participant.permission or _Permission()
    kind = kind_of(str(participant.kind), is_agent=permission.agent, is_recorder=permission.recorder)
    is_agent = kind is ParticipantKind.AGENT
    agent_name = agent_name_of(participant.attributes) if is_agent else None
    _check_text(agent_name or "", 256)
    joined_ms = _number(participant.joined_at_ms) or _number(participant.joined_at) * 1_000
    return Participant(
        sid=participant.sid,
        kind=kind,
        identity=participant.identity if is_agent else None,
        agent_name=agent_name,
        joined_at=joined_ms * 1_000 or None,
        leaving=participant.attributes.get(LEAVING_ATTRIBUTE) if is_agent else None,
    )


def _check_text(text: str, limit: int) -> None:
    """Postgres takes no NUL, and neither database more than its column holds."""
    if len(text) > limit or "\0" in text:
        raise ValueError("a name is too long, or has a character that no name has")


def _number(value: str | int) -> int:
    """A 64-bit number, whichever way it was written; beyond 63 bits no table can hold it."""
    number = int(value)
    if not 0 <= number < 2**53:
        raise ValueError("a number is out of range")
    return number
