"""Which requests are webhooks in the usual form, and that aiohttp reads the same from them."""

import asyncio
import re
from contextlib import closing

import pytest
from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web.request_id import HEADER
from app.web.usual_request import UsualRequest, usual_request

BODY = b'{"event":"room_started"}'
#: As livekit-server 1.13.5 sends it.
LIVEKIT = (
    b"POST /api/livekit/webhook HTTP/1.1",
    b"Host: service:8080",
    b"User-Agent: Go-http-client/1.1",
    b"Content-Length: 24",
    b"Authorization: e30.e30.c2ln",
    b"Content-Type: application/webhook+json",
    b"Accept-Encoding: gzip",
)
AUTHORIZATION_AT = 4


def written(*lines: bytes, body: bytes = BODY) -> bytes:
    return b"\r\n".join((*lines, b"", body))


def with_header(line: bytes) -> bytes:
    return written(*LIVEKIT, line)


def with_line(number: int, line: bytes) -> bytes:
    """LiveKit's request with another line in this place."""
    return written(*LIVEKIT[:number], line, *LIVEKIT[number + 1 :])


def test_livekits_own_form_is_usual() -> None:
    received = written(*LIVEKIT)
    request = usual_request(received)
    assert request is not None
    assert request.authorization == "e30.e30.c2ln"
    assert received[request.body_at :] == BODY
    assert request.length == len(BODY)
    assert request.request_id is None


@pytest.mark.parametrize(
    "line",
    [
        b"Accept: */*",
        b"Connection: Keep-Alive",
        b"Cf-Ray: 8a1b2c3d4e5f6789-FRA",
        b"Forwarded: for=192.0.2.60;proto=https",
        b"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"Via: 1.1 Caddy",
        b"X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678",
        b"X-Envoy-Expected-Rq-Timeout-Ms: 15000",
        b"X-Forwarded-For: 10.0.0.1, 192.0.2.7",
        b"X-Real-IP: 192.0.2.7",
        b"x-forwarded-proto:https",
    ],
)
def test_what_common_proxies_add_is_usual(line: bytes) -> None:
    assert usual_request(with_header(line))


def test_lower_case_and_a_scheme_are_usual() -> None:
    """HTTP/2 and some proxies write names so."""
    request = usual_request(with_line(AUTHORIZATION_AT, b"authorization: Bearer e30.e30.c2ln"))
    assert request is not None
    assert request.authorization == "Bearer e30.e30.c2ln"


def test_the_callers_request_id_is_kept() -> None:
    request = usual_request(with_header(b"X-Request-Id: 4b0c-1"))
    assert request is not None
    assert request.request_id == "4b0c-1"


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"POST /api/livekit/webhook HTTP/1.1\r\n",
        written(*LIVEKIT)[:-1].partition(b"\r\n\r\n")[0],
        with_line(0, b"GET /api/livekit/webhook HTTP/1.1"),
        with_line(0, b"POST /api/livekit/webhook?a=1 HTTP/1.1"),
        with_line(0, b"POST /api/livekit/webhook/ HTTP/1.1"),
        with_line(0, b"POST /api/livekit/webhook HTTP/1.0"),
        with_line(0, b"POST http://service/api/livekit/webhook HTTP/1.1"),
        with_line(1, b"X-Host: service"),
        with_line(3, b"X-Length: 24"),
        with_line(3, b"Content-Length: +24"),
        with_line(3, b"Content-Length: 024"),
        with_line(3, b"Content-Length: 24, 24"),
        with_line(3, b"Content-Length: "),
        with_line(3, b"Content-Length: 2400000000"),
        with_line(3, b"Content-Length : 24"),
        with_line(AUTHORIZATION_AT, b"X-Authorization: e30.e30.c2ln"),
        with_line(AUTHORIZATION_AT, b"AUTHORIZATION: e30.e30.c2ln"),
        with_line(AUTHORIZATION_AT, b"Authorization: e30\0.e30.c2ln"),
        with_line(AUTHORIZATION_AT, b"Authorization: e30\r.e30.c2ln"),
        with_line(AUTHORIZATION_AT, b"Authorization: e30\n.e30.c2ln"),
        with_line(AUTHORIZATION_AT, "Authorization: é30.e30.c2ln".encode()),
        with_line(AUTHORIZATION_AT, b"Authorization: " + b"x" * 5_000),
        with_header(b"Authorization: e30.e30.c2ln"),
        with_header(b"authorization: e30.e30.c2ln"),
        with_header(b"Content-Length: 24"),
        with_header(b"content-length: 24"),
        with_header(b"Content-Encoding: gzip"),
        with_header(b"Connection: close"),
        with_header(b"Connection: keep-alive, close"),
        with_header(b"\r\n".join(b"x-%d: 1" % number for number in range(60))),
        with_header(b"Connection: upgrade"),
        with_header(b"Expect: 100-continue"),
        with_header(b"Host: another"),
        with_header(b"Trailer: X-A"),
        with_header(b"Transfer-Encoding: chunked"),
        with_header(b"Upgrade: h2c"),
        with_header(b" folded: line"),
        with_header(b"no colon"),
        with_header(b": no name"),
        with_header(b"X-(A): b"),
        with_header(b"X A: b"),
        with_header(b"X-Request-Id: spaces within"),
        with_header(b"X-Request-Id: one\r\nX-Request-Id: two"),
        with_header(b"X-A: \x7f"),
        with_header(b"X-A: a\rb"),
        with_header(b"X-A: " + b"x" * 2_000),
    ],
)
def test_everything_else_is_aiohttps(received: bytes) -> None:
    assert usual_request(received) is None


def test_what_is_missing_of_a_request_is_known() -> None:
    received = written(*LIVEKIT)
    for more, missing in ((received[:-3], 3), (received, 0), (received + b"POST", -4)):
        request = usual_request(more)
        assert request is not None
        assert request.missing_in(more) == missing


def read_by_aiohttp(received: bytes) -> tuple[RawRequestMessage, bytes]:
    """The first request as aiohttp reads it."""
    with closing(asyncio.new_event_loop()) as loop:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_headers=64)
        ((message, payload),) = parser.feed_data(received)[0]
        return message, b"".join(payload._buffer) if isinstance(payload, StreamReader) else b""


#: Lines that a parser may stumble over, pieces of such, and plain bytes.
LINES = st.sampled_from(
    [
        *LIVEKIT,
        b"Authorization: a.b.c",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Content-Encoding: deflate",
        b"Content-Length: 3",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"X-(A): b",
        b"X-A : b",
        b"X-A:b",
        b"X-A:  b ",
        b"X-A:",
        b"X-A: b: c",
        b"X-A: b\tc",
        b"X-Request-Id: 7",
        b"X-\x80: b",
        b"X-a\xff: b",
        b"X A: b",
        b"cf-[: b",
    ]
)
PIECES = (
    LINES.map(lambda line: b"\r\n" + line)
    | st.sampled_from([b"\r\n", b"\n", b"\r", b": ", b" ", b"\t", b"\0"])
    | st.binary(max_size=3)
)


@st.composite
def spoiled_requests(draw: st.DrawFn) -> bytes:
    """LiveKit's request with a few pieces put in, or in place of others."""
    received = written(*LIVEKIT)
    for _ in range(draw(st.integers(1, 3))):
        places = [match.start() for match in re.finditer(rb"\r\n", received)] or [0]
        at = draw(st.sampled_from(places) | st.integers(0, len(received)))
        until = draw(st.sampled_from([at, min(len(received), at + 2)]) | st.integers(at, len(received)))
        received = received[:at] + draw(PIECES) + received[until:]
    return received


@settings(max_examples=500, deadline=None)
@given(received=spoiled_requests())
def test_aiohttp_reads_the_same_from_every_usual_request(received: bytes) -> None:
    request = usual_request(received)
    if request is None or request.missing_in(received) != 0:
        return
    assert_read_alike(request, received)


def assert_read_alike(request: UsualRequest, received: bytes) -> None:
    message, body = read_by_aiohttp(received)
    assert (message.method, message.path, message.version) == (
        "POST",
        "/api/livekit/webhook",
        HttpVersion11,
    )
    assert not any((message.should_close, message.upgrade, message.chunked, message.compression))
    assert message.headers.getall("Authorization") == [request.authorization.strip()]
    assert message.headers.getall(HEADER, []) == [request.request_id] * (request.request_id is not None)
    assert body == received[request.body_at :]
