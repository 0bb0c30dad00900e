"""A corpus of webhooks as livekit-server sends them: distinct, signed, with consistent joins and leaves."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.config.settings import Keypair

#: The validity that livekit-server sets.
_VALID_FOR_S = 300
_MOST_PEOPLE = 3


@dataclass(kw_only=True)
class Room:
    """A room of the corpus, and the people in it."""

    number: int
    created_s: int
    #: Distinguishes the rooms and events of different corpora.
    seed: int
    people: list[int] = field(default_factory=list)
    comings: int = 0

    @property
    def name(self) -> str:
        return f"room-{self.seed}-{self.number:06d}"

    @property
    def sid(self) -> str:
        return f"RM_{self.seed:03d}{self.number:09d}"


def write_corpus(file: Path, events: int, rooms: int, keypair: Keypair, *, seed: int = 1) -> None:
    """One webhook per line: the Authorization header, a tab, and the body."""
    signer = Signer(keypair)
    with file.open("w", encoding="utf-8") as out:
        for body in bodies(events, rooms, seed=seed):
            out.write(f"{signer.sign(body)}\t{body}\n")


def bodies(events: int, rooms: int, *, seed: int = 1, created_s: int | None = None) -> Iterator[str]:
    """People join rooms, refresh and leave; every event is different.

    `created_s`: when LiveKit opened the rooms; None: a minute ago.
    """
    chance = random.Random(seed)  # noqa: S311 - not a secret
    now_s = int(time.time())
    stage = [Room(number=number, created_s=created_s or now_s - 60, seed=seed) for number in range(rooms)]
    for event_number in range(events):
        room = chance.choice(stage)
        comes = not room.people or (len(room.people) < _MOST_PEOPLE and chance.random() < 0.5)  # noqa: PLR2004 - half of the time
        if comes:
            room.comings += 1
            person = room.comings
            room.people.append(person)
        else:
            person = room.people.pop(chance.randrange(len(room.people)))
        yield _render(event_number, room, person, now_s, comes=comes)


def _render(event_number: int, room: Room, person: int, now_s: int, *, comes: bool) -> str:
    return webhook_body(
        event="participant_joined" if comes else "participant_left",
        event_id=f"EV_{room.seed:03d}{event_number:09d}",
        room_sid=room.sid,
        room_name=room.name,
        created_ms=room.created_s * 1_000 + 503,
        people=len(room.people),
        now_s=now_s,
        participant=person_fields(
            sid=f"PA_{room.seed:03d}{room.number:06d}x{person:05d}",
            identity=f"user-{room.number}-{person}",
            joined_ms=now_s * 1_000 + 553,
            is_in=comes,
        ),
    )


def person_fields(*, sid: str, identity: str, joined_ms: int, is_in: bool) -> dict[str, object]:
    """The fields that livekit-server 1.13.5 sends for a browser's user, in its order."""
    fields: dict[str, object] = {
        "sid": sid,
        "identity": identity,
        "state": "ACTIVE" if is_in else "DISCONNECTED",
        "joinedAt": str(joined_ms // 1_000),
        "joinedAtMs": str(joined_ms),
        "name": "A person with a name",
        "version": 4,
        "permission": {"canSubscribe": True, "canPublish": True, "canPublishData": True},
        "attributes": {"tier": "gold", "locale": "en-GB"},
        "clientProtocol": 2,
        "capabilities": ["CAP_PACKET_TRAILER", "CAP_COMPRESSION_DEFLATE_RAW"],
    }
    if not is_in:
        fields["disconnectReason"] = "CLIENT_INITIATED"
    return fields


def webhook_body(
    *,
    event: str,
    event_id: str,
    room_sid: str,
    room_name: str,
    created_ms: int,
    people: int,
    now_s: int,
    participant: Mapping[str, object] | None,
) -> str:
    """The fields that livekit-server 1.13.5 sends, in its order; `participant` None: the event has none."""
    body: dict[str, object] = {
        "event": event,
        "room": {
            "sid": room_sid,
            "name": room_name,
            "emptyTimeout": 420,
            "departureTimeout": 420,
            "creationTime": str(created_ms // 1_000),
            "creationTimeMs": str(created_ms),
            "turnPassword": "iRBfVQFoeFhgZwOJvSPAJ7RiRFWxgThXeyPuMmNdNEJ",
            "numParticipants": people,
        },
    }
    if participant is not None:
        body["participant"] = participant
    return json.dumps(body | {"id": event_id, "createdAt": str(now_s)}, separators=(",", ":"))


class Signer:
    """HS256 by hand: the SDK would need longer to sign a corpus than a run needs to send it."""

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self._header = _base64url(b'{"alg":"HS256","typ":"JWT"}')
        self._now_s = int(time.time())

    def sign(self, body: str) -> str:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        claims = {
            "exp": self._now_s + _VALID_FOR_S,
            "iss": self._keypair.key,
            "nbf": self._now_s - 10,
            "sha256": digest,
        }
        payload = json.dumps(claims, separators=(",", ":")).encode()
        signed = f"{self._header}.{_base64url(payload)}"
        signature = hmac.digest(self._keypair.secret.encode(), signed.encode(), "sha256")
        return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
