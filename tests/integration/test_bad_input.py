"""Bad input: each kind has a precise error, and none is a 500."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.web.endpoints import BODY_LIMIT
from app.web.schemas import DISPATCH_BODY_BYTES
from integration.harness import AGENTS, API_KEY, DISPATCH, ON_BOTH, STATUS, TOKEN, App, World, member_token

LONG = "x" * 10_000


def body(**fields: Any) -> bytes:
    return json.dumps({"roomName": "room"} | fields).encode()


@pytest.fixture(autouse=True)
async def _nothing_came_of_it(app: App, world: World) -> AsyncIterator[None]:
    yield
    assert (await app.call("GET", "/readyz")).status == 200
    assert world.livekit.count("create_dispatch") == 0
    assert not any(world.tables().values())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"{",
        b'{"roomName": "room"',
        b'{"roomName": "room"} {}',
        b'\xff\xfe{"roomName": "room"}',
        b'{"roomName": "\xed\xa0\x80"}',
        b'{"roomName": "\\ud800"}',
        b'{"roomName": "ro\x00om"}',
        b'{"roomName": NaN}',
    ],
    ids=lambda data: repr(data[:30]),
)
async def test_a_body_that_cannot_be_read_is_400(app: App, data: bytes) -> None:
    answer = await app.call("POST", DISPATCH, data=data)

    assert (answer.status, answer.code, answer.body["retryable"]) == (400, "malformed", False)
    assert answer.body["success"] is False


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{}", "roomName"),
        (b"[" * 8_000, "array"),
        (b'{"a":' * 3_000, "unknown field"),
        (b'{"roomName":' + b"[" * 7_000 + b"]" * 7_000 + b"}", "$.roomName"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"7", "object"),
        (b'"room"', "object"),
        (body(roomName=None), "$.roomName"),
        (body(roomName=7), "$.roomName"),
        (body(roomName=[]), "$.roomName"),
        (body(roomName={}), "$.roomName"),
        (body(roomName=True), "$.roomName"),
        (body(roomName=""), "$.roomName"),
        (body(roomName=" "), "$.roomName"),
        (body(roomName=" room"), "$.roomName"),
        (body(roomName="room "), "$.roomName"),
        (body(roomName="room\n"), "$.roomName"),
        (body(roomName="ro\0om"), "$.roomName"),
        (body(roomName="x" * 257), "$.roomName"),
        (body(roomName="会" * 86), "$.roomName"),
        (body(roomName=LONG), "$.roomName"),
        (body(room_name="room"), "room_name"),
        (body(unknown=1), "unknown"),
        (body(metadata=7), "$.metadata"),
        (body(metadata="m" * 16_385), "$.metadata"),
        (body(timezone=1), "$.timezone"),
        (body(timezone=LONG), "$.timezone"),
        (body(timezoneOffset="60"), "$.timezoneOffset"),
        (body(timezoneOffset=True), "$.timezoneOffset"),
        (body(agentName=7), "$.agentName"),
        (body(agentName=""), "$.agentName"),
        (body(agentName="nobody"), "$.agentName"),
        (body(agentName=LONG), "$.agentName"),
        (body(agentName="agent\0"), "$.agentName"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_field_that_is_wrong_is_422_and_named(app: App, data: bytes, field: str) -> None:
    answer = await app.call("POST", DISPATCH, data=data)

    assert (answer.status, answer.code, answer.body["retryable"]) == (422, "invalid", False)
    assert field in answer.body["message"]
    assert len(answer.body["message"]) < 300


async def test_a_repeated_field_is_the_last_one_or_an_error(app: App) -> None:
    answer = await app.call("POST", DISPATCH, data=b'{"roomName": "a b", "roomName": 7}')

    assert (answer.status, answer.code) == (422, "invalid")


@pytest.mark.parametrize(("path", "limit"), [(DISPATCH, DISPATCH_BODY_BYTES), (TOKEN, BODY_LIMIT)])
async def test_a_body_that_is_too_large_is_413(app: App, path: str, limit: int) -> None:
    answer = await app.call("POST", path, data=body(roomName="x" * limit))

    assert (answer.status, answer.code) == (413, "too_large")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ([], "roomName"),
        ([("roomName", "")], "roomName"),
        ([("roomName", "a"), ("roomName", "b")], "'roomName' is given more than once"),
        ([("roomName", "a"), ("roomName", "a")], "'roomName' is given more than once"),
        ([("roomName", "a"), ("agentName", "agent"), ("agentName", "agent")], "'agentName'"),
        ([("roomName", "a"), ("extra", "1")], "extra"),
        ([("roomName", "a"), ("é" * 200, "1"), ("é" * 200, "1")], "more than once"),
        ([("roomName", LONG[:4_000])], "roomName"),
        ([("roomName", "a\0")], "roomName"),
        ([("roomName", "a"), ("agentName", "nobody")], "agentName"),
        ([("roomname", "a")], "roomname"),
    ],
    ids=lambda value: repr(value)[:50],
)
@pytest.mark.parametrize(("method", "path"), [("GET", STATUS), ("DELETE", DISPATCH)])
async def test_a_wrong_query_is_422(
    app: App, method: str, path: str, params: list[tuple[str, str]], field: str
) -> None:
    answer = await app.call(method, path, params=params)

    assert (answer.status, answer.code) == (422, "invalid")
    assert field in answer.body["message"]


@pytest.mark.parametrize("query", ["roomName=%ff", "roomName=%ed%a0%80", "roomName=%00", "%ff=%ff"])
async def test_a_query_that_is_not_utf8_is_422(app: App, query: str) -> None:
    answer = await app.call("GET", f"{STATUS}?{query}")

    assert (answer.status, answer.code) == (422, "invalid")


@pytest.mark.parametrize(
    "params",
    [
        {"state": "asleep"},
        {"state": ""},
        {"state": "active,"},
        {"limit": "0"},
        {"limit": "501"},
        {"limit": "-1"},
        {"limit": "many"},
        {"limit": "1.5"},
        {"limit": "9" * 30},
        {"cursor": "x"},
        {"cursor": "1"},
        {"cursor": "1."},
        {"cursor": f"{2**80}.a"},
        {"cursor": "٣.a"},
        {"cursor": "-1.a"},
        {"cursor": "1.a'--"},
        {"extra": "1"},
    ],
)
async def test_a_wrong_query_of_the_list_is_422(app: App, params: dict[str, str]) -> None:
    answer = await app.call("GET", AGENTS, params=params)

    assert (answer.status, answer.code) == (422, "invalid"), answer
    assert next(iter(params)) in answer.body["message"]


@ON_BOTH
@pytest.mark.parametrize("dispatch_id", ["AD_none", "%00", "%ff", "x" * 4_000, "..%2f..", "'; drop table"])
async def test_an_unknown_dispatch_is_404(app: App, dispatch_id: str) -> None:
    answer = await app.call("GET", f"{AGENTS}/{dispatch_id}")

    assert (answer.status, answer.code) == (404, "not_found")


async def test_a_parameter_of_the_history_is_422(app: App) -> None:
    answer = await app.call("GET", f"{AGENTS}/AD_none?verbose=1")

    assert (answer.status, answer.code) == (422, "invalid")


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'{"room_name": 7}',
        b'{"room_name": " room"}',
        b'{"participant_identity": 7}',
        b'{"participant_identity": "' + b"x" * 257 + b'"}',
        b'{"participant_attributes": {"a": 1}}',
        b'{"participant_attributes": []}',
        b'{"room_config": 7}',
        b'{"room_config": {"agents": [{"agent_name": "nobody"}]}}',
        b'{"room_config": {"agents": 7}}',
        b'{"room_config": {"empty_timeout": 1e30}}',
        b'{"room_config": {"empty_timeout": -1}}',
        b'{"room_config": {"empty_timeout": 99999999999}}',
        b'{"room_config": {"metadata": ' + b"[" * 500 + b"]" * 500 + b"}}",
    ],
    ids=lambda data: repr(data[:60]),
)
async def test_a_wrong_token_request_is_422(app: App, data: bytes) -> None:
    answer = await app.call("POST", TOKEN, data=data)

    assert (answer.status, answer.code) == (422, "invalid")


# Who asks


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", DISPATCH),
        ("DELETE", DISPATCH),
        ("GET", STATUS),
        ("POST", TOKEN),
        ("GET", AGENTS),
        ("GET", f"{AGENTS}/AD_1"),
    ],
)
async def test_missing_credentials_are_401_before_any_other_check(app: App, method: str, path: str) -> None:
    for header in (None, "", "Bearer", "Bearer ", "Basic eDp5", API_KEY, "Bearer not-a-key", "Bearer a.b.c"):
        headers = {} if header is None else {"Authorization": header}
        answer = await app.call(method, path, auth=None, headers=headers, data=b"not json")
        assert (answer.status, answer.code) == (401, "unauthenticated"), header
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_expired_token_is_401(app: App) -> None:
    expired = member_token("room", valid_for=dt.timedelta(minutes=-5))
    answer = await app.call("GET", STATUS, params={"roomName": "room"}, auth=expired)

    assert (answer.status, answer.body["message"]) == (401, "The token has expired")


@pytest.mark.parametrize(("method", "path"), [("GET", STATUS), ("DELETE", DISPATCH)])
async def test_another_rooms_token_is_403(app: App, method: str, path: str) -> None:
    answer = await app.call(method, path, params={"roomName": "room"}, auth=member_token("other"))

    assert (answer.status, answer.code) == (403, "forbidden")


async def test_another_rooms_token_dispatches_nothing(app: App) -> None:
    for token in (member_token("other"), member_token("roo"), member_token("room", join=False)):
        answer = await app.call("POST", DISPATCH, data=body(), auth=token)
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path"), [("GET", AGENTS), ("GET", f"{AGENTS}/AD_1"), ("POST", TOKEN)])
async def test_a_participant_token_is_403_on_operator_endpoints(app: App, method: str, path: str) -> None:
    answer = await app.call(method, path, auth=member_token("room"))

    assert (answer.status, answer.code) == (403, "forbidden")


# Where


@pytest.mark.parametrize("path", ["/", "/api/livekit/nothing", "/api/livekit/agents/a/b", "/%00", "/é"])
async def test_an_unknown_path_is_404_in_json(app: App, path: str) -> None:
    answer = await app.call("GET", path)

    assert answer.status == 404
    assert answer.body == {
        "success": False,
        "code": "not_found",
        "message": "Not Found",
        "retryable": False,
        "requestId": answer.headers["X-Request-Id"],
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", DISPATCH, {"DELETE", "POST"}), ("POST", STATUS, {"GET", "HEAD"}), ("GET", TOKEN, {"POST"})],
)
async def test_a_wrong_method_is_405_in_json(app: App, method: str, path: str, allowed: set[str]) -> None:
    answer = await app.call(method, path)

    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(",")) == allowed
