"""LiveKit's webhooks: the bytes that it sends, with the header that signs them."""

import base64
import hashlib
import itertools
import time
from dataclasses import dataclass
from typing import Any

import jwt
from google.protobuf.json_format import MessageToJson
from livekit.protocol.models import DisconnectReason, ParticipantInfo, ParticipantPermission, Room
from livekit.protocol.webhook import WebhookEvent

from app.config.settings import Keypair
from app.livekit.client import participant_of
from app.livekit.webhooks import Webhook, stored_id
from app.state.presence import ParticipantKind
from fakes.rooms import FakeParticipant, FakeRoom

#: Stand in every webhook, and have no business in a database or a log.
TURN_PASSWORD = "turn-password-that-nobody-may-keep"
METADATA = "metadata-that-nobody-may-keep"
ATTRIBUTE = "attribute-that-nobody-may-keep"
SECRETS = (TURN_PASSWORD, METADATA, ATTRIBUTE)

_ids = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class SignedWebhook:
    """One webhook on its way."""

    event: str
    room_name: str
    body: bytes
    authorization: str


def sign(body: bytes, keypair: Keypair, *, valid_for_s: int = 300) -> str:
    """What LiveKit puts into the Authorization header; the time is the real one, as is the receiver's."""
    now = int(time.time())
    claims = {
        "iss": keypair.key,
        "nbf": now - 600,
        "exp": now + valid_for_s,
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    return jwt.encode(claims, keypair.secret, algorithm="HS256")


def render(
    event: str, now: int, room: FakeRoom | None, participant: FakeParticipant | None = None, reason: str = ""
) -> bytes:
    """The JSON of one event, as LiveKit's protobuf library writes it."""
    message = WebhookEvent(event=event, id=f"EV_{next(_ids):012d}", created_at=now // 1_000_000)
    if room is not None:
        message.room.CopyFrom(_room(room))
    if participant is not None:
        message.participant.CopyFrom(_participant(participant, reason))
    return MessageToJson(message, indent=None).encode()


def _room(room: FakeRoom) -> Room:
    return Room(
        sid=room.sid,
        name=room.name,
        empty_timeout=room.empty_timeout_s,
        departure_timeout=room.departure_timeout_s,
        creation_time=room.created_at // 1_000_000,
        creation_time_ms=room.created_at // 1_000,
        turn_password=TURN_PASSWORD,
        metadata=METADATA,
        num_participants=len(room.people),
    )


def _participant(participant: FakeParticipant, reason: str) -> ParticipantInfo:
    is_person = participant.kind is ParticipantKind.PERSON
    of_people = ParticipantInfo.Kind.SIP if participant.is_phone else ParticipantInfo.Kind.STANDARD
    # Avatars join with a token of an agent's too.
    is_agent = not is_person
    attributes = {"mood": ATTRIBUTE} | participant.attributes
    info = ParticipantInfo(
        sid=participant.sid,
        identity=participant.identity,
        name=f"name of {participant.identity}",
        state=ParticipantInfo.State.DISCONNECTED if reason else ParticipantInfo.State.ACTIVE,
        metadata=METADATA,
        joined_at=participant.joined_at // 1_000_000,
        joined_at_ms=participant.joined_at // 1_000,
        kind=of_people if is_person else ParticipantInfo.Kind.AGENT,
        permission=ParticipantPermission(can_publish=True, can_subscribe=True, agent=is_agent),
        attributes=attributes,
    )
    if reason:
        info.MergeFrom(ParticipantInfo(disconnect_reason=reason))
    return info


def assert_read_alike(ours: Webhook, theirs: Any) -> None:
    """What we have read of a body is what protobuf's own parser reads there, `theirs`."""
    assert ours.name == theirs.event
    assert (ours.sent_at or 0) == theirs.created_at * 1_000_000
    if ours.event is None:
        return
    room = ours.event.room
    assert ours.event.event_id == stored_id(theirs.created_at, theirs.id)
    assert (room.name, room.sid) == (theirs.room.name, theirs.room.sid)
    assert room.created_at == (theirs.room.creation_time_ms or theirs.room.creation_time * 1_000) * 1_000
    if ours.event.participant:
        assert ours.event.participant == participant_of(theirs.participant)
    if ours.event.reason is not None:
        assert ours.event.reason == DisconnectReason.Name(theirs.participant.disconnect_reason)
