"""Webhooks: signed bodies are read as LiveKit would read them; all others are rejected."""

import base64
import hashlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from google.protobuf.json_format import Parse
from livekit import api
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.webhook import WebhookEvent

from app.config.settings import Secrets
from app.errors import Malformed, Unauthenticated
from app.livekit.client import participant_of
from app.livekit.jwt import LEEWAY_S
from app.livekit.webhooks import IGNORED_EVENTS, check_digest, signed_digest, translate
from app.state.changes import RoomEventKind
from app.state.presence import Participant, ParticipantKind
from fakes.webhooks import assert_read_alike

KEYS = {
    "devkey": ("a-secret-of-at-least-thirty-two-characters", "a-former-secret-of-at-least-thirty-two-ch"),
    "newkey": ("another-secret-of-at-least-thirty-two-ch",),
}
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
BODY = SAMPLES[1].read_bytes()


def sign(body: bytes, key: str = "devkey", secret: str | None = None, **claims: object) -> str:
    """Sign as livekit-server does."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    token = api.AccessToken(key, secret or KEYS[key][0]).with_sha256(digest).with_ttl(timedelta(minutes=5))
    if not claims:
        return token.to_jwt()
    plain = {"iss": key, "exp": int(time.time()) + 300, "nbf": int(time.time()), "sha256": digest, **claims}
    kept = {name: value for name, value in plain.items() if value is not None}
    return jwt.encode(kept, secret or KEYS[key][0], algorithm="HS256")


# Verification


def verify(body: bytes, authorization: str | None, keys: Secrets) -> None:
    """Verify as the endpoint does: first the header, then the body."""
    check_digest(body, signed_digest(authorization, keys))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_a_body_signed_with_one_of_the_keys_is_accepted(key: str, prefix: str) -> None:
    verify(BODY, prefix + sign(BODY, key), KEYS)


def test_a_body_signed_with_a_former_secret_of_a_key_is_accepted() -> None:
    verify(BODY, sign(BODY, "devkey", KEYS["devkey"][1]), KEYS)


@pytest.mark.parametrize("extra", [{"video": {"room": "room"}}, {"sub": "x"}, {"anything": [1, 2]}])
def test_additional_claims_are_ignored(extra: dict[str, Any]) -> None:
    verify(BODY, sign(BODY, **extra), KEYS)


def test_the_clocks_may_differ_by_a_minute() -> None:
    verify(BODY, sign(BODY, exp=int(time.time()) - LEEWAY_S + 20), KEYS)
    verify(BODY, sign(BODY, nbf=int(time.time()) + LEEWAY_S - 20), KEYS)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer ",
        "garbage",
        "Basic dXNlcjpwYXNz",
        sign(BODY, secret=KEYS["newkey"][0]),
        sign(BODY, "unknown", KEYS["devkey"][0]),
        sign(BODY + b" "),
        sign(b""),
        sign(BODY, exp=int(time.time()) - LEEWAY_S - 5),
        sign(BODY, exp=None),
        sign(BODY, nbf=int(time.time()) + 86_400, exp=int(time.time()) + 90_000),
        sign(BODY, sha256=None),
        sign(BODY, sha256=""),
        sign(BODY, sha256=7),
        sign(BODY, sha256=["x"]),
        sign(BODY, sha256="not base64!"),
        sign(BODY, sha256="\u00e9"),
        sign(BODY, sha256=hashlib.sha256(BODY).hexdigest()),
        sign(BODY, sha256=base64.b64encode(hashlib.sha256(BODY).digest()[:16]).decode()),
        api.AccessToken("devkey", KEYS["devkey"][0]).with_identity("ann").to_jwt(),
    ],
)
def test_a_missing_wrong_or_expired_signature_is_rejected(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated):
        verify(BODY, authorization, KEYS)


def test_a_body_with_one_altered_byte_is_rejected() -> None:
    with pytest.raises(Unauthenticated):
        verify(BODY.replace(b"alice", b"alicf", 1), sign(BODY), KEYS)


# Translation


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_real_webhook_is_read_as_protobufs_parser_reads_it(path: Path) -> None:
    body = path.read_bytes()
    theirs: Any = Parse(body, WebhookEvent(), ignore_unknown_fields=True)

    ours = translate(body)

    assert_read_alike(ours, theirs)
    assert (ours.event is None) == (theirs.event in IGNORED_EVENTS)
    if ours.event is None:
        return
    assert ours.event.room.created_at == theirs.room.creation_time_ms * 1_000
    assert (ours.event.participant is not None) == theirs.HasField("participant")


def test_a_real_persons_join() -> None:
    event = translate(SAMPLES[1].read_bytes()).event
    assert event is not None
    assert event.kind is RoomEventKind.JOINED
    assert event.participant is not None
    assert (event.participant.kind, event.participant.identity) == (ParticipantKind.PERSON, "alice")


def test_a_real_agents_leave() -> None:
    event = translate(SAMPLES[6].read_bytes()).event
    assert event is not None
    assert (event.kind, event.reason) == (RoomEventKind.LEFT, "CLIENT_INITIATED")
    assert event.participant is not None
    assert (event.participant.kind, event.participant.agent_name) == (ParticipantKind.AGENT, "plain-agent")


def webhook(event: str = "participant_joined", /, **changes: Any) -> dict[str, Any]:
    return {
        "event": event,
        "id": "EV_1",
        "createdAt": "1795471081",
        "room": {
            "name": "room",
            "sid": "RM_1",
            "creationTime": "1795471081",
            "creationTimeMs": "1795471081503",
        },
        "participant": {"sid": "PA_1", "identity": "ann", "joinedAt": "1795471082"},
        **changes,
    }


def participant(**fields: Any) -> Participant:
    body = webhook()
    event = translate(json.dumps({**body, "participant": {**body["participant"], **fields}}).encode()).event
    assert event is not None
    assert event.participant is not None
    return event.participant


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("participant_joined", RoomEventKind.JOINED),
        ("participant_left", RoomEventKind.LEFT),
        ("participant_connection_aborted", RoomEventKind.LEFT),
        ("room_started", RoomEventKind.STARTED),
        ("room_finished", RoomEventKind.FINISHED),
    ],
)
def test_five_events_report_presence(name: str, kind: RoomEventKind) -> None:
    event = translate(json.dumps(webhook(name)).encode()).event
    assert event is not None
    assert event.kind is kind


@pytest.mark.parametrize("name", [*sorted(IGNORED_EVENTS), "room_metadata_changed", "x" * 1_000])
def test_other_events_keep_their_name_and_report_no_presence(name: str) -> None:
    webhook_ = translate(json.dumps(webhook(name)).encode())
    assert (webhook_.name, webhook_.event) == (name, None)


@pytest.mark.parametrize(
    "body",
    [
        webhook(room=None),
        webhook(room={}),
        webhook(room={"name": "room"}),
        webhook(room={"sid": "RM_1"}),
        webhook(id=""),
        webhook(participant=None),
        webhook(participant={}),
        webhook(participant={"identity": "ann"}),
    ],
)
def test_an_event_without_a_room_or_participant_reports_no_presence(body: dict[str, Any]) -> None:
    assert translate(json.dumps(body).encode()).event is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"creationTimeMs": "1795471081503"}, 1_795_471_081_503_000),
        ({"creationTimeMs": 1795471081503}, 1_795_471_081_503_000),
        ({"creationTime": "1795471081"}, 1_795_471_081_000_000),
        ({"creationTime": 1795471081}, 1_795_471_081_000_000),
        ({}, 0),
    ],
)
def test_a_number_may_be_a_string_and_milliseconds_take_precedence(
    written: dict[str, Any], expected: int
) -> None:
    event = translate(json.dumps(webhook(room={"name": "room", "sid": "RM_1", **written})).encode()).event
    assert event is not None
    assert event.room.created_at == expected


def test_the_time_of_a_join_is_in_milliseconds_if_the_server_sends_them() -> None:
    assert participant().joined_at == 1_795_471_082_000_000
    assert participant(joinedAtMs="1795471082345").joined_at == 1_795_471_082_345_000
    assert participant(joinedAt=0).joined_at is None


def test_a_list_that_has_a_join_in_seconds_alone_is_read_as_a_webhook_is() -> None:
    info = ParticipantInfo(sid="PA_1", joined_at=1_795_471_082)
    assert participant_of(info).joined_at == participant().joined_at


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, ParticipantKind.PERSON),
        ({"kind": "STANDARD"}, ParticipantKind.PERSON),
        ({"kind": "SIP"}, ParticipantKind.PERSON),
        ({"kind": "INGRESS"}, ParticipantKind.PERSON),
        ({"kind": "SOMETHING_NEW"}, ParticipantKind.PERSON),
        ({"kind": 99}, ParticipantKind.PERSON),
        ({"kind": "AGENT"}, ParticipantKind.AGENT),
        ({"permission": {"agent": True}}, ParticipantKind.AGENT),
        ({"kind": "EGRESS"}, ParticipantKind.DEPENDENT),
        ({"permission": {"recorder": True}}, ParticipantKind.DEPENDENT),
    ],
)
def test_every_participant_but_agents_and_egress_is_a_person(
    fields: dict[str, Any], kind: ParticipantKind
) -> None:
    assert participant(**fields).kind is kind


@pytest.mark.parametrize("attribute", ["lk.agent_name", "lk.agent.name"])
def test_the_agent_name_is_read_from_an_attribute(attribute: str) -> None:
    agent = participant(kind="AGENT", identity="agent-AJ_1", attributes={attribute: "plain"})
    assert (agent.identity, agent.agent_name) == ("agent-AJ_1", "plain")


def test_the_leaving_attribute_is_read_for_agents_only() -> None:
    attributes = {"agent-lifecycle.leaving": "finished", "lk.agent_name": "plain"}
    assert participant(kind="AGENT", attributes=attributes).leaving == "finished"
    person = participant(attributes=attributes)
    assert (person.leaving, person.agent_name) == (None, None)


@pytest.mark.parametrize(
    ("kind", "named", "read"),
    [
        ("AGENT", f"agent-warm.{'a' * 32}", f"agent-warm.{'a' * 32}"),
        ("STANDARD", f"agent-warm.{'a' * 32}", None),
        ("AGENT", f"agent-warm.{'a' * 33}", None),
        ("AGENT", "room", None),
    ],
)
def test_only_agents_say_in_which_holding_room_they_were(kind: str, named: str, read: str | None) -> None:
    attributes = {"agent-lifecycle.holding_room": named, "lk.agent_name": "plain"}
    assert participant(kind=kind, attributes=attributes).holding_room == read


@pytest.mark.parametrize("kind", ["STANDARD", "SIP", "CONNECTOR"])
def test_a_session_may_be_linked_to_a_participant_of_these_kinds(kind: str) -> None:
    person = participant(kind=kind)
    assert (person.kind, person.identity) == (ParticipantKind.PERSON, "ann")


@pytest.mark.parametrize("kind", ["INGRESS", "BRIDGE", "A_KIND_OF_THE_FUTURE"])
def test_a_session_is_never_linked_to_a_participant_of_another_kind(kind: str) -> None:
    person = participant(kind=kind)
    assert (person.kind, person.identity) == (ParticipantKind.PERSON, None)


def test_a_kind_that_this_version_cannot_name_is_a_person() -> None:
    info = ParticipantInfo(sid="PA_1", identity="ann")
    info.MergeFromString(ParticipantInfo(kind=ParticipantInfo.Kind.AGENT).SerializeToString()[:1] + b"c")
    person = participant_of(info)
    assert (person.kind, person.identity) == (ParticipantKind.PERSON, None)


@pytest.mark.parametrize("kind", ["STANDARD", "AGENT"])
def test_an_avatar_belongs_to_its_agent_and_is_nobody_itself(kind: str) -> None:
    avatar = participant(kind=kind, attributes={"lk.publish_on_behalf": "agent-AJ_1"})
    assert (avatar.kind, avatar.on_behalf_of) == (ParticipantKind.DEPENDENT, "agent-AJ_1")


def test_an_agent_says_whether_its_session_is_ready() -> None:
    for state, is_preparing in (("initializing", True), ("listening", False), ("", False)):
        agent = participant(kind="AGENT", attributes={"lk.agent.state": state} if state else {})
        assert agent.is_preparing is is_preparing
        assert agent.has_session is (state == "listening")


def test_the_reason_is_read_for_a_leave_only() -> None:
    left = translate(json.dumps(webhook("participant_left")).encode()).event
    joined = translate(json.dumps(webhook()).encode()).event
    assert left is not None
    assert joined is not None
    assert (left.reason, joined.reason) == ("UNKNOWN_REASON", None)


AGENT = {"sid": "PA_1", "kind": "AGENT"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"not json",
        b'{"event": ',
        b'{"event": 7}',
        b'{"event": null}',
        b'{"event": ""}',
        b"\xff\xfe",
        b'{"event": "\xff"}',
        b"[" * 100_000,
        b'{"event":"x","room":' * 20_000,
        json.dumps(webhook(room="room")).encode(),
        json.dumps(webhook(room=[])).encode(),
        json.dumps(webhook(participant=7)).encode(),
        json.dumps(webhook(id=7)).encode(),
        json.dumps(webhook(participant={"sid": "PA_1", "attributes": {"a": 1}})).encode(),
        json.dumps(webhook(participant={"sid": "PA_1", "permission": {"agent": "yes"}})).encode(),
        json.dumps(webhook(room={"name": "r\0om", "sid": "RM_1"})).encode(),
        json.dumps(webhook(room={"name": "r" * 257, "sid": "RM_1"})).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "R" * 65})).encode(),
        json.dumps(webhook(id="E" * 65)).encode(),
        json.dumps(webhook(participant={"sid": "P" * 65})).encode(),
        json.dumps(webhook(participant={"sid": "PA_1", "identity": "i" * 257, "kind": "AGENT"})).encode(),
        json.dumps(webhook(participant={**AGENT, "attributes": {"lk.agent_name": "a" * 257}})).encode(),
        json.dumps(webhook(participant={**AGENT, "attributes": {"lk.agent_name": "a\0"}})).encode(),
        json.dumps(
            webhook("participant_left", participant={"sid": "PA_1", "disconnectReason": "R" * 65})
        ).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "RM_1", "creationTimeMs": "soon"})).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "RM_1", "creationTimeMs": "-1"})).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "RM_1", "creationTimeMs": 2**70})).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "RM_1", "creationTimeMs": "9" * 5_000})).encode(),
        json.dumps(webhook(room={"name": "room", "sid": "RM_1", "creationTimeMs": 1.5})).encode(),
        json.dumps(webhook(room={"name": "\ud800", "sid": "RM_1"})).encode(),
    ],
)
def test_a_body_of_another_form_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        translate(body)


def test_unknown_fields_are_ignored() -> None:
    body = webhook(newField={"deep": [1, 2, 3]})
    assert translate(json.dumps(body).encode()).event is not None
