"""Schemas and presenters: good and bad input, and the form of answers."""

import json
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from app.clock import to_iso
from app.control.requests import AgentGrant
from app.errors import Invalid, Malformed, ServiceError
from app.lifecycle import State
from app.state.views import HistoryLine
from app.web.bodies import parse_body, parse_query
from app.web.checks import check_metadata, check_room_name, check_timezone, check_timezone_offset
from app.web.presenters import agent_item, dispatch_response, history_item, status_response
from app.web.schemas import (
    DispatchRequest,
    ListQuery,
    NoQuery,
    RoomQuery,
    TokenRequest,
)
from fakes.dispatches import INTENT

AT = 1_700_000_000_123_456
ISO = "2023-11-14T22:13:20.123Z"
DISPATCH = replace(
    INTENT,
    id="0123456789abcdef",
    dispatch_id="AD_1",
    state=State.IDLE,
    created_at=AT,
    last_activity_at=AT,
    ttl_expires_at=AT + 300_000_000,
)


def request(**fields: Any) -> bytes:
    return json.dumps({"roomName": "room", **fields}).encode()


# Bodies


def test_a_full_request_is_read() -> None:
    body = request(timezone="Europe/Berlin", timezoneOffset=-60, agentName="agent")
    assert parse_body(body, DispatchRequest) == DispatchRequest(
        room_name="room", timezone="Europe/Berlin", timezone_offset=-60, agent_name="agent"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("r", "a room", "A-Za_z.0:9@#~+=", "r" * 256, "-", "a  b", "user@example.com:room#1"),
        *("Salle à manger", "会议", "org/room", "a?b", "<b>", "\u202eroom", "a\u00a0b", "😀"),
    ],
)
def test_a_good_room_name_is_taken(name: str) -> None:
    assert parse_body(request(roomName=name), DispatchRequest).room_name == name
    assert parse_query([("roomName", name)], RoomQuery).room_name == name


BAD_NAMES = [
    "",
    " ",
    " room",
    "room ",
    "r" * 257,
    "r" * 10_000,
    "r\0om",
    "room\n",
    "\nroom",
    "a\tb",
    "a\x7fb",
    "a\x85b",
    "\u00a0room",
    "room\u2028",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_room_name_is_invalid(name: str) -> None:
    with pytest.raises(Invalid, match=r"\$\.roomName"):
        parse_body(request(roomName=name), DispatchRequest)
    with pytest.raises(Invalid):
        parse_query([("roomName", name)], RoomQuery)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"roomName": None}, "roomName"),
        ({"roomName": 7}, "roomName"),
        ({"roomName": ["room"]}, "roomName"),
        ({"roomName": {"a": 1}}, "roomName"),
        ({"roomName": True}, "roomName"),
        ({"agentName": ""}, "agentName"),
        ({"agentName": "a" * 129}, "agentName"),
        ({"agentName": 1}, "agentName"),
        ({"timezone": 1}, "timezone"),
        ({"timezone": "a" * 257}, "timezone"),
        ({"timezoneOffset": "60"}, "timezoneOffset"),
        ({"timezoneOffset": True}, "timezoneOffset"),
        ({"metadata": 1}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"replaceIfMetadataDiffers": 1}, "replaceIfMetadataDiffers"),
        ({"unknown": 1}, "unknown"),
        ({"room_name": "room"}, "room_name"),
    ],
)
def test_a_wrong_field_is_invalid_and_named(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid, match=where):
        parse_body(request(**fields), DispatchRequest)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"7", b'"room"', b'[{"roomName":"room"}]'])
def test_json_of_another_form_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse_body(body, DispatchRequest)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"not json",
        b"{'roomName': 'room'}",
        b'{"roomName": "room",}',
        b'{"roomName": "room"} trailing',
        b'{"roomName": NaN}',
        b'{"roomName": "\xff\xfe"}',
        b'{"roomName": "\xed\xa0\x80"}',
        b'{"roomName": "\\ud800"}',
        b'{"roomName": "\\udc00\\ud800"}',
        b'{"roomName": "a\nb"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_in_utf8_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_body(body, DispatchRequest)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 16_000,
        b'{"roomName":' * 1_000,
        b'{"roomName":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
        b'{"unknown":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}",
        b'{"room_config":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}",
    ],
)
@pytest.mark.parametrize("kind", [DispatchRequest, TokenRequest])
def test_a_body_of_any_depth_is_a_4xx_or_its_depth_is_ignored(body: bytes, kind: type) -> None:
    try:
        parsed: object = parse_body(body, kind)
    except (Malformed, Invalid) as error:
        assert 400 <= error.status < 500  # noqa: PT017 - one of two good ends
    else:
        # Python 3.12 reads some 10,000 levels. Only what is ignored, or checked later, may have them.
        assert isinstance(parsed, TokenRequest)
        assert parsed == TokenRequest(room_config=parsed.room_config)


@pytest.mark.parametrize("offset", [b"9" * 15_000, b"1e999"])
def test_a_number_of_any_size_is_a_4xx(offset: bytes) -> None:
    with pytest.raises((Malformed, Invalid)) as error:
        parse_body(b'{"roomName": "room", "timezoneOffset": ' + offset + b"}", DispatchRequest)
    assert 400 <= error.value.status < 500


@pytest.mark.parametrize("fields", [{"x" * 10_000: 1}, {"\0": 1}, {"roomName": "r" * 10_000}])
def test_a_message_is_short_whatever_was_sent(fields: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as error:
        parse_body(request(**fields), DispatchRequest)
    str(error.value).encode()


def test_a_repeated_field_of_a_body_is_the_last_one() -> None:
    """As usual in JSON. The check and the use must see the same value."""
    assert parse_body(b'{"roomName":"a","roomName":"b"}', DispatchRequest).room_name == "b"


# Queries


def test_a_query_is_read() -> None:
    assert parse_query([("roomName", "room"), ("agentName", "agent")], RoomQuery).agent_name == "agent"
    assert parse_query([("limit", "7"), ("state", "idle")], ListQuery) == ListQuery(limit=7, state="idle")
    assert parse_query([], NoQuery) == NoQuery()


@pytest.mark.parametrize(
    ("pairs", "kind"),
    [
        ([], RoomQuery),
        ([("roomName", "a"), ("roomName", "a")], RoomQuery),
        ([("roomName", "a"), ("roomName", "b")], RoomQuery),
        ([("roomName", "a"), ("extra", "")], RoomQuery),
        ([("roomname", "a")], RoomQuery),
        ([("room_name", "a")], RoomQuery),
        ([("roomName", "a"), ("agentName", "")], RoomQuery),
        ([("limit", "0")], ListQuery),
        ([("limit", "501")], ListQuery),
        ([("limit", "x")], ListQuery),
        ([("limit", "")], ListQuery),
        ([("limit", "1.5")], ListQuery),
        ([("limit", "9" * 400)], ListQuery),
        ([("cursor", "c" * 129)], ListQuery),
        ([("state", "s" * 129)], ListQuery),
        ([("x" * 10_000, "1")] * 2, NoQuery),
        ([("\ud800", "1")] * 2, NoQuery),
        ([("anything", "1")], NoQuery),
    ],
)
def test_a_wrong_query_is_invalid(pairs: list[tuple[str, str]], kind: type) -> None:
    with pytest.raises(Invalid) as error:
        parse_query(pairs, kind)
    str(error.value).encode()


def test_a_repeated_parameter_is_named_in_short_form() -> None:
    with pytest.raises(Invalid) as error:
        parse_query([("x" * 10_000, "1")] * 2, NoQuery)
    assert len(str(error.value)) < 200


# Room names


@pytest.mark.parametrize("name", ["r" * 256, "ä" * 128, "会" * 85, "😀" * 64])
def test_a_room_name_may_have_256_bytes(name: str) -> None:
    assert check_room_name(name) == name
    with pytest.raises(Invalid, match=r"256 bytes.*\$\.roomName"):
        check_room_name(name + "ä")


def test_a_pattern_narrows_whole_room_names() -> None:
    narrowed = re.compile("room-[0-9]+")
    assert check_room_name("room-17", narrowed) == "room-17"
    for name in ("room-17b", "a room-17", "room-"):
        with pytest.raises(Invalid, match="ROOM_NAME_PATTERN"):
            check_room_name(name, narrowed)


# Metadata


@pytest.mark.parametrize(
    ("metadata", "text"),
    [(None, None), ("", ""), ("free text", "free text"), ({"a": [1, "b"]}, '{"a":[1,"b"]}')],
)
def test_metadata_is_a_text_or_an_object(metadata: str | dict[str, Any] | None, text: str | None) -> None:
    assert check_metadata(metadata) == text


@pytest.mark.parametrize("metadata", ["m" * 16_385, "ä" * 8_193, {"a": "b" * 16_384}])
def test_metadata_has_at_most_16_kib(metadata: str | dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="metadata"):
        check_metadata(metadata)
    assert check_metadata("m" * 16_384)


# Time zones


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", None])
def test_a_time_zone_is_an_iana_name(name: str | None) -> None:
    warnings: list[str] = []
    assert check_timezone(name, warnings) == name
    assert not warnings


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Europe/Nowhere",
        "europe",
        "../../etc/passwd",
        "/etc/passwd",
        "Europe/../UTC",
        "Europe",
        "a\0b",
        "x" * 64,
        "\ud800",
        "tzdata.zi",
        ".",
        "Europe/Berlin\n",
        "Etc/Unknown",
        "GMT+05:30",
        "localtime",
        "posixrules",
        "Factory",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
    ],
)
def test_any_other_time_zone_is_left_out_with_a_warning(name: str) -> None:
    warnings: list[str] = []
    assert check_timezone(name, warnings) is None
    assert len(warnings) == 1
    assert warnings[0].startswith("timezone ")


@pytest.mark.parametrize(
    ("minutes", "taken"),
    [(None, None), (0, 0), (-60.0, -60), (840, 840), (1.5, None), (841, None), (1e300, None)],
)
def test_an_offset_that_no_zone_has_is_left_out_with_a_warning(
    minutes: float | None, taken: int | None
) -> None:
    warnings: list[str] = []
    assert check_timezone_offset(minutes, warnings) == taken
    assert len(warnings) == (minutes is not None and taken is None)


# Answers


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (AT, ISO),
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_000_000, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000_999_999, "2023-11-14T22:13:20.999Z"),
        (None, None),
    ],
)
def test_a_time_is_iso_in_utc_with_milliseconds(at: int | None, text: str | None) -> None:
    assert to_iso(at) == text


def test_the_status_of_nothing_is_two_fields() -> None:
    assert _json(status_response(None, AT)) == {"hasAgent": False, "state": "none"}


@pytest.mark.parametrize("state", State)
def test_the_status_says_whether_there_is_an_agent(state: State) -> None:
    answer = _json(status_response(replace(DISPATCH, state=state), AT))
    without = (State.UNAVAILABLE, State.ON_HOLD, State.ENDING, State.ENDED)
    assert (answer["hasAgent"], answer["state"]) == (state not in without, state.value)


def test_the_status_of_an_agent_has_all_its_fields() -> None:
    assert _json(status_response(DISPATCH, AT)) == {
        "hasAgent": True,
        "state": "idle",
        "dispatchId": "AD_1",
        "createdAt": ISO,
        "lastActivityAt": ISO,
        "participantCount": 0,
        "ttlExpiresAt": "2023-11-14T22:18:20.123Z",
        "sessionEndsAt": None,
        "endingSoon": False,
        "ready": False,
    }


def test_the_answer_to_a_request() -> None:
    answer = _json(dispatch_response(AgentGrant(dispatch=DISPATCH, reused=True), []))
    assert answer.pop("message")
    assert answer == {
        "success": True,
        "dispatchId": "AD_1",
        "reused": True,
        "source": "reused",
        "state": "idle",
        "ttlExpiresAt": "2023-11-14T22:18:20.123Z",
        "metadataApplied": None,
        "ready": False,
        "readyAfterMs": None,
        "queue": None,
        "warnings": [],
    }


def test_an_item_of_the_list() -> None:
    assert set(_json(agent_item(DISPATCH, AT))) == {
        "dispatchId",
        "roomName",
        "agentName",
        "state",
        "createdAt",
        "lastActivityAt",
        "participantCount",
        "ttlExpiresAt",
        "sessionEndsAt",
        "endingSoon",
        "agentIdentity",
        "deployment",
        "endReason",
    }


def test_a_line_of_history() -> None:
    line = HistoryLine(at=AT, event="intent", from_state=None, to_state="creating", people=1)
    assert _json(history_item(line)) == {
        "at": ISO,
        "event": "intent",
        "message": "An agent was requested for this room",
        "fromState": None,
        "toState": "creating",
        "participantCount": 1,
    }


def _json(answer: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return decoded
