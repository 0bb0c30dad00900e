"""Request bodies and queries: reading within limits, and checking."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import HttpVersion11, web

from app.errors import Invalid, Malformed, TooLarge, TooSlow
from app.web.endpoints import Access, AnyEndpoint

T = TypeVar("T")

#: For the whole body, from the start of reading it.
BODY_TIMEOUT_S = 10.0


async def invite_body(request: web.BaseRequest) -> None:
    """Answer `Expect: 100-continue`, else the sender waits for it.

    aiohttp does so for its routes, but before its middlewares: any other expectation would be answered
    without them.
    """
    if "Expect" in request.headers and request.version >= HttpVersion11:
        expected = request.headers["Expect"]
        if expected.lower() != "100-continue":
            raise web.HTTPExpectationFailed(text=f"Unknown Expect: {expected[:32]!r}")
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What the envelope sends is a new answer.
        request.writer.output_size = 0


async def leave_to_handler(_request: web.Request) -> None:
    """For routes whose handler calls `invite_body`."""


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it has more than `limit` bytes, by its header or in fact.
        TooSlow: it did not arrive in time.
        Malformed: the caller closed the connection.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(f"The body exceeds {limit} bytes")
    try:
        if request.content.is_eof():
            # It came with the head, as nearly all do: no time limit is needed.
            body = await request.read()
        else:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
    except TimeoutError as error:
        raise TooSlow(f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"The body exceeds {limit} bytes") from error
    except ConnectionError as error:
        raise Malformed("The connection closed before the body was complete") from error
    if len(body) > limit:
        raise TooLarge(f"The body exceeds {limit} bytes")
    return body


def is_connected(request: web.BaseRequest) -> bool:
    """Whether the caller still waits for the answer."""
    return request.transport is not None and not request.transport.is_closing()


def json_response(answer: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


async def read_input(request: web.Request, endpoint: AnyEndpoint) -> Any:
    """The handler's input, checked against the endpoint's types."""
    query = None
    if endpoint.query:
        _check_utf8(request.rel_url.raw_query_string)
        query = parse_query(list(request.query.items()), endpoint.query)
    if endpoint.body is None:
        return query
    if endpoint.access is Access.LIVEKIT:
        return None
    # A body without required fields may be left out.
    return parse_body(await read_body(request, endpoint.body_limit) or endpoint.body_if_none, endpoint.body)


def _check_utf8(raw_query: str) -> None:
    try:
        unquote_to_bytes(raw_query).decode()
    except UnicodeDecodeError:
        # Else its bytes would be read as text with percent signs, which is a room name too.
        raise Invalid("The query is not in UTF-8") from None


def parse_body(body: bytes, kind: type[T]) -> T:
    """Read a JSON body.

    Raises:
        Malformed: it is not JSON.
        Invalid: a field is missing, wrong, or unknown; the message names the field and the reason.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Malformed("The body is not a JSON object in UTF-8") from error


def parse_query(pairs: Sequence[tuple[str, str]], kind: type[T]) -> T:
    """Read query parameters; raises Invalid for one that is repeated, missing, wrong, or unknown."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"Query parameter {name[:64]!a} is given more than once")
    try:
        return msgspec.convert(dict(pairs), type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
