"""Request bodies and queries: read within their limits, and checked."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from app.errors import Invalid, Malformed, TooLarge, TooSlow
from app.web.endpoints import Access, AnyEndpoint

T = TypeVar("T")

BODY_LIMIT = 16 * 1024


#: For the whole body, from the moment it is wanted.
BODY_TIMEOUT_S = 10.0


async def read_body(request: web.BaseRequest, limit: int = BODY_LIMIT) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it has more than `limit` bytes, or says so.
        TooSlow: it does not come.
        Malformed: the caller has hung up.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body is over {limit} bytes")
    try:
        if request.content.is_eof():
            # It came with the head, as nearly all do: nothing has to be waited for.
            body = await request.read()
        else:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {BODY_TIMEOUT_S:.0f} s") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"the body is over {limit} bytes") from error
    except ConnectionError as error:
        raise Malformed("the connection ended before the body did") from error
    if len(body) > limit:
        raise TooLarge(f"the body is over {limit} bytes")
    return body


def json_response(answer: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


async def read_input(request: web.Request, endpoint: AnyEndpoint) -> Any:
    """What the handler is to work on, checked against the endpoint's types."""
    query = None
    if endpoint.query:
        query = parse_query(list(request.query.items()), endpoint.query)
    if endpoint.body is None:
        return query
    if endpoint.access is Access.LIVEKIT:
        return None
    # A type of which nothing is required may be left out altogether.
    return parse_body(await read_body(request) or endpoint.body_if_none, endpoint.body)


def parse_body(body: bytes, kind: type[T]) -> T:
    """Read a JSON body.

    Raises:
        Malformed: it is not JSON.
        Invalid: a field is missing, wrong, or not known; the message says which and why.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Malformed("the body is not a JSON object in UTF-8") from error


def parse_query(pairs: Sequence[tuple[str, str]], kind: type[T]) -> T:
    """Read query parameters; raises Invalid for one that is repeated, missing, wrong, or not known."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"the query parameter {name[:64]!a} is given more than once")
    try:
        return msgspec.convert(dict(pairs), type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
