"""The reception of every endpoint: who asks, how often, and with what; then its handler and its answer."""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from app.config.environment import Network
from app.errors import Malformed, RateLimited, TooLarge, TooSlow, Unauthenticated
from app.web.auth import Authenticator, Caller
from app.web.client_address import client_address, neighbourhood
from app.web.endpoints import Access, AnyEndpoint
from app.web.rate_limit import WINDOW_S, Quota, RateLimiter
from app.web.schemas import parse_body, parse_query

CALLER = web.RequestKey("caller", Caller)
QUOTA = web.RequestKey("quota", Quota)

BODY_LIMIT = 16 * 1024
#: For the whole body, from the moment it is wanted.
BODY_TIMEOUT_S = 10.0
#: An API key stands for a backend with many people behind it.
OPERATOR_FACTOR = 10


class Reception:
    def __init__(
        self,
        authenticator: Authenticator,
        limiter: RateLimiter,
        *,
        limit_per_minute: int,
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._authenticator = authenticator
        self._limiter = limiter
        self._limit = limit_per_minute
        self._trusted_proxies = trusted_proxies

    def route(self, endpoint: AnyEndpoint) -> web.RouteDef:
        """The endpoint as aiohttp's router knows it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self._admit(request, endpoint.access)
            answer = await endpoint.handler(request, await _input(request, endpoint))
            if isinstance(answer, web.Response):
                return answer
            return json_response(answer, endpoint.statuses[0])

        if endpoint.method == "GET":
            # And HEAD with it.
            return web.get(endpoint.path, handle)
        return web.route(endpoint.method, endpoint.path, handle)

    def _admit(self, request: web.Request, access: Access) -> None:
        """Let the caller through, counted.

        Raises:
            Unauthenticated, Forbidden: not this caller, not here.
            RateLimited: too often.
        """
        if access is Access.ANYBODY:
            self._count(request, ("address", self._address(request)), self._limit)
        if not access.is_identified:
            return
        try:
            caller = self._authenticator.identify(request.headers.get("Authorization"))
        except Unauthenticated:
            # Only those that fail are counted so: nobody can lock out whoever shares an address with them.
            self._count(request, ("failures", self._address(request)), self._limit)
            raise
        request[CALLER] = caller
        if caller.is_operator:
            self._count(request, ("key", caller.api_key), self._limit * OPERATOR_FACTOR)
        else:
            self._count(request, ("participant", caller.room_name, caller.identity), self._limit)
        if access is Access.OPERATOR:
            caller.require_operator()

    def _count(self, request: web.Request, key: Hashable, limit: int) -> None:
        if limit == 0:
            return
        quota = self._limiter.take(key, limit)
        request[QUOTA] = quota
        if quota.retry_after_s:
            raise RateLimited(
                f"more than {limit} calls a minute; ask again in {quota.retry_after_s} s",
                retry_after_s=quota.retry_after_s,
            )

    def _address(self, request: web.Request) -> str:
        forwarded_for = request.headers.getall("X-Forwarded-For", [])
        return neighbourhood(client_address(request.remote, forwarded_for, self._trusted_proxies))


async def add_quota(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: what is left, in the form of draft-ietf-httpapi-ratelimit-headers."""
    if quota := request.get(QUOTA):
        response.headers["RateLimit-Policy"] = f'"default";q={quota.limit};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"default";r={quota.remaining};t={quota.reset_s}'


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


async def _input(request: web.Request, endpoint: AnyEndpoint) -> Any:
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
