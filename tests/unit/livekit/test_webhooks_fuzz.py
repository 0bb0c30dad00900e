"""Generated webhooks: this service and protobuf's parser read the same, or this service rejects them."""

import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from livekit.protocol.models import DisconnectReason, ParticipantInfo, ParticipantPermission, Room
from livekit.protocol.webhook import WebhookEvent

from app.errors import Malformed
from app.livekit.webhooks import KNOWN_EVENTS, stored_id, translate
from bench.corpus import bodies
from fakes.webhooks import assert_read_alike

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
#: Milliseconds since 1970, far into the future.
TIMES_MS = st.integers(1, 2**42)


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Any presence event that livekit-server could send."""
    created_ms, joined_ms = draw(TIMES_MS), draw(TIMES_MS)
    return WebhookEvent(
        event=draw(st.sampled_from(sorted(KNOWN_EVENTS)) | NAMES),
        id=draw(NAMES),
        created_at=draw(st.integers(0, 2**33)),
        room=Room(
            sid=draw(NAMES),
            name=draw(NAMES),
            creation_time=created_ms // 1_000,
            creation_time_ms=created_ms,
            metadata=draw(st.text(max_size=5)),
            num_participants=draw(st.integers(0, 9)),
        ),
        participant=ParticipantInfo(
            sid=draw(NAMES),
            identity=draw(NAMES),
            joined_at=joined_ms // 1_000,
            joined_at_ms=joined_ms,
            kind=draw(st.sampled_from(ParticipantInfo.Kind.keys())),
            permission=ParticipantPermission(agent=draw(st.booleans()), recorder=draw(st.booleans())),
            attributes=draw(
                st.dictionaries(st.sampled_from(["lk.agent_name", "lk.agent.name", "x"]), NAMES, max_size=3)
            ),
            disconnect_reason=draw(st.sampled_from(DisconnectReason.keys())),
        ),
    )


@settings(max_examples=300)
@given(message=events())
def test_any_webhook_is_read_as_protobuf_reads_it(message: Any) -> None:
    body = MessageToJson(message, indent=None).encode()
    assert_read_alike(translate(body), Parse(body, WebhookEvent(), ignore_unknown_fields=True))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
PLACES = st.sampled_from(
    [
        "event",
        "id",
        "createdAt",
        "room",
        "room.sid",
        "room.creationTimeMs",
        "participant",
        "participant.kind",
        "participant.joinedAtMs",
        "participant.permission",
        "participant.attributes",
        "more",
    ]
)


@settings(max_examples=300)
@given(body=st.sampled_from(list(bodies(20, 3))), place=PLACES, value=JSON)
def test_any_value_in_a_field_is_read_as_protobuf_does_or_rejected(
    body: str, place: str, value: object
) -> None:
    fields = json.loads(body)
    # LiveKit sends enumerations by name: a number is not read as one, and protobuf has no other names.
    assume(place != "participant.kind" or not isinstance(value, int | float | str))
    *way, last = place.split(".")
    inner = fields
    for name in way:
        inner = inner[name]
    inner[last] = value
    fuzzed = json.dumps(fields).encode("utf-8", "surrogatepass")
    try:
        ours = translate(fuzzed)
    except Malformed:
        return
    # LiveKit cannot have sent what protobuf does not read; accepting it does no harm.
    with contextlib.suppress(ParseError):
        assert_read_alike(ours, Parse(fuzzed, WebhookEvent(), ignore_unknown_fields=True))


EDGES = [edge + shift for edge in (0, 10**10, 10**13, 2**53, 2**63, 2**64) for shift in (-1, 0, 1)]
MOMENTS = st.sampled_from(EDGES) | st.integers(0, 2**64)
TIMES = st.sampled_from(
    [
        "createdAt",
        "room.creationTime",
        "room.creationTimeMs",
        "participant.joinedAt",
        "participant.joinedAtMs",
    ]
)


@settings(max_examples=300)
@given(place=TIMES, moment=MOMENTS, written=st.sampled_from([int, str]))
def test_any_time_fits_the_database_and_sorts_or_is_rejected(
    place: str, moment: int, written: type[int | str]
) -> None:
    fields: dict[str, Any] = {
        "event": "participant_joined",
        "id": "EV_1",
        "createdAt": 1_795_471_081,
        "room": {"name": "room", "sid": "RM_1"},
        "participant": {"sid": "PA_1", "identity": "ann"},
    }
    *way, last = place.split(".")
    inner = fields
    for name in way:
        inner = inner[name]
    inner[last] = written(moment)
    if not 0 <= moment < (10**13 if last.endswith("Ms") else 10**10):
        with pytest.raises(Malformed):
            translate(json.dumps(fields).encode())
        return
    webhook = translate(json.dumps(fields).encode())
    assert webhook.event is not None
    assert webhook.event.participant is not None
    times = (webhook.sent_at, webhook.event.room.created_at, webhook.event.participant.joined_at)
    assert all(0 <= (time or 0) < 2**63 for time in times)
    assert len(webhook.event.event_id.partition(".")[0]) == len(stored_id(0, "").partition(".")[0])


def test_the_corpus_of_the_bench_is_read_as_protobuf_reads_it() -> None:
    for body in bodies(500, 20):
        ours = translate(body.encode())
        assert ours.event is not None
        assert_read_alike(ours, Parse(body, WebhookEvent(), ignore_unknown_fields=True))
