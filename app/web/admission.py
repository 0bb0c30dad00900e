"""Admission of requests to endpoints: authentication, rate limit and input check before each handler."""

from collections.abc import Hashable, Sequence

from aiohttp import web

from app.config.environment import Network
from app.errors import RateLimited, Unauthenticated
from app.web.auth import Authenticator, Caller
from app.web.bodies import json_response, read_input
from app.web.client_address import client_address, neighbourhood
from app.web.endpoints import Access, AnyEndpoint
from app.web.rate_limit import WINDOW_S, Quota, RateLimiter

CALLER = web.RequestKey("caller", Caller)
QUOTA = web.RequestKey("quota", Quota)

#: A backend with an API key serves many people.
OPERATOR_FACTOR = 10


class Admission:
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
        """The endpoint as a route of aiohttp."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self._admit(request, endpoint.access)
            answer = await endpoint.handler(request, await read_input(request, endpoint))
            if isinstance(answer, web.Response):
                return answer
            return json_response(answer, endpoint.statuses[0])

        if endpoint.method == "GET":
            return web.get(endpoint.path, handle)  # HEAD too
        return web.route(endpoint.method, endpoint.path, handle)

    def _admit(self, request: web.Request, access: Access) -> None:
        """Authenticate the caller and count the call.

        Raises:
            Unauthenticated, Forbidden: the caller may not call this endpoint.
            RateLimited: the caller has no quota left.
        """
        if access is Access.ANYBODY:
            self._count(request, ("address", self._address(request)), self._limit)
        if not access.is_identified:
            return
        try:
            caller = self._authenticator.identify(request.headers.get("Authorization"))
        except Unauthenticated:
            # Only failures are counted by address: nobody can lock out others behind the same address.
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
                f"More than {limit} calls a minute; retry in {quota.retry_after_s} s",
                retry_after_s=quota.retry_after_s,
            )

    def _address(self, request: web.Request) -> str:
        forwarded_for = request.headers.getall("X-Forwarded-For", [])
        return neighbourhood(client_address(request.remote, forwarded_for, self._trusted_proxies))


async def add_quota_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`; the form is that of draft-ietf-httpapi-ratelimit-headers."""
    if quota := request.get(QUOTA):
        response.headers["RateLimit-Policy"] = f'"default";q={quota.limit};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"default";r={quota.remaining};t={quota.reset_s}'
