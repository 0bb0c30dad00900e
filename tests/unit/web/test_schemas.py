"""Schemas and presenters: good and bad input, and the form of answers."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from app.control.requests import AgentGrant
from app.errors import Invalid, Malformed, ServiceError
from app.lifecycle import Dispatch, State
from app.state.views import HistoryLine
from app.web.bodies import parse_body, parse_query
from app.web.presenters import agent_item, dispatch_response, history_item, status_response, to_iso
from app.web.schemas import DispatchRequest, ListQuery, NoQuery, RoomQuery, TokenRequest, check_timezone

AT = 1_700_000_000_123_456
ISO = "2023-11-14T22:13:20.123Z"
DISPATCH = Dispatch(
    id="0123456789abcdef",
    dispatch_id="AD_1",
    room_name="room",
    room_sid="RM_1",
    agent_name="agent",
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
    "name", ["r", "a room", "A-Za_z.0:9@#~+=", "r" * 128, "-", "a  b", "user@example.com:room#1"]
)
def test_a_good_room_name_is_taken(name: str) -> None:
    assert parse_body(request(roomName=name), DispatchRequest).room_name == name
    assert parse_query([("roomName", name)], RoomQuery).room_name == name


BAD_NAMES = [
    "",
    " ",
    " room",
    "room ",
    "r" * 129,
    "r" * 10_000,
    "r\0om",
    "room\n",
    "\nroom",
    "a\tb",
    "a/b",
    "a?b",
    "a<b>",
    "räume",
    "部屋",
    "\u202eroom",
    "a\u00a0b",
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
        ({"timezone": "a" * 65}, "timezone"),
        ({"timezoneOffset": "60"}, "timezoneOffset"),
        ({"timezoneOffset": 60.5}, "timezoneOffset"),
        ({"timezoneOffset": True}, "timezoneOffset"),
        ({"timezoneOffset": -841}, "timezoneOffset"),
        ({"timezoneOffset": 841}, "timezoneOffset"),
        ({"timezoneOffset": 2**63}, "timezoneOffset"),
        ({"timezoneOffset": 2**64}, "timezoneOffset"),
        ({"timezoneOffset": -(2**70)}, "timezoneOffset"),
        ({"timezoneOffset": 10**300}, "timezoneOffset"),
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
        b'{"roomName": "room", "timezoneOffset": ' + b"9" * 15_000 + b"}",
        b'{"roomName": "room", "timezoneOffset": 1e999}',
        b'{"room_config":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}",
    ],
)
@pytest.mark.parametrize("kind", [DispatchRequest, TokenRequest])
def test_any_room_configuration_within_the_limit_is_valid_or_422(body: bytes, kind: type) -> None:
    with pytest.raises((Malformed, Invalid)) as error:
        parse_body(body, kind)
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


# Time zones


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", None])
def test_a_time_zone_is_an_iana_name(name: str | None) -> None:
    assert check_timezone(name) == name


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
    ],
)
def test_any_other_time_zone_is_invalid(name: str) -> None:
    with pytest.raises(Invalid):
        check_timezone(name)


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
    assert _json(status_response(None)) == {"hasAgent": False, "state": "none"}


@pytest.mark.parametrize("state", State)
def test_the_status_says_whether_there_is_an_agent(state: State) -> None:
    answer = _json(status_response(replace(DISPATCH, state=state)))
    without = (State.UNAVAILABLE, State.ENDING, State.ENDED)
    assert (answer["hasAgent"], answer["state"]) == (state not in without, state.value)


def test_the_status_of_an_agent_has_all_its_fields() -> None:
    assert _json(status_response(DISPATCH)) == {
        "hasAgent": True,
        "state": "idle",
        "dispatchId": "AD_1",
        "createdAt": ISO,
        "lastActivityAt": ISO,
        "participantCount": 0,
        "ttlExpiresAt": "2023-11-14T22:18:20.123Z",
    }


def test_the_answer_to_a_request() -> None:
    answer = _json(dispatch_response(AgentGrant(dispatch=DISPATCH, reused=True)))
    assert answer.pop("message")
    assert answer == {
        "success": True,
        "dispatchId": "AD_1",
        "reused": True,
        "state": "idle",
        "ttlExpiresAt": "2023-11-14T22:18:20.123Z",
    }


def test_an_item_of_the_list() -> None:
    assert set(_json(agent_item(DISPATCH))) == {
        "dispatchId",
        "roomName",
        "agentName",
        "state",
        "createdAt",
        "lastActivityAt",
        "participantCount",
        "ttlExpiresAt",
        "agentIdentity",
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
