"""Admission of requests to endpoints: authentication, limits and input check before each handler."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from enum import StrEnum

from aiohttp import web

from app.clock import Clock
from app.config.environment import Network
from app.errors import Forbidden, RateLimited, Unauthenticated
from app.livekit.webhooks import check_digest
from app.web.auth import CALLER, Authenticator
from app.web.bodies import invite_body, json_response, leave_to_handler, read_body, read_input
from app.web.calls import CallLimiter
from app.web.client_address import address_of, neighbourhood
from app.web.endpoints import Access, AnyEndpoint
from app.web.rate_limit import WINDOW_S, Quota, RateLimiter

QUOTA = web.RequestKey("quota", Quota)

#: A backend with an API key serves many people.
OPERATOR_FACTOR = 10

#: From one address, whatever RATE_LIMIT_PER_MINUTE is: to write all metrics takes a hundred times as long as
#: to refuse it.
SCRAPES_PER_MINUTE = 300


class _Kind(StrEnum):
    """Whom a limit counts. Each kind has a bound of its own: strangers cannot make the others forgotten."""

    ADDRESS = "address"
    FAILURES = "failures"
    KEY = "key"
    PARTICIPANT = "participant"
    SCRAPES = "scrapes"


class Admission:
    def __init__(
        self,
        authenticator: Authenticator,
        clock: Clock,
        calls: CallLimiter,
        *,
        limit_per_minute: int,
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._authenticator = authenticator
        self._limiters: defaultdict[_Kind, RateLimiter] = defaultdict(lambda: RateLimiter(clock))
        self._calls = calls
        self._limit = limit_per_minute
        self._trusted_proxies = trusted_proxies

    def route(self, endpoint: AnyEndpoint) -> web.RouteDef:
        """The endpoint as a route of aiohttp."""

        async def handle(request: web.Request) -> web.StreamResponse:
            await invite_body(request)
            if endpoint.access is Access.WORKER:
                await self._admit_worker(request, endpoint.body_limit)
            self._admit(request, endpoint.access)
            if not endpoint.access.is_call:
                return await answer(request)
            with self._calls.place():
                return await answer(request)

        async def answer(request: web.Request) -> web.StreamResponse:
            given = await endpoint.handler(request, await read_input(request, endpoint))
            if isinstance(given, web.Response):
                return given
            return json_response(given, endpoint.statuses[0])

        if endpoint.method == "GET":
            return web.get(endpoint.path, handle, expect_handler=leave_to_handler)  # HEAD too
        return web.route(endpoint.method, endpoint.path, handle, expect_handler=leave_to_handler)

    async def _admit_worker(self, request: web.Request, body_limit: int) -> None:
        """Raises: Unauthenticated, Forbidden: no worker has signed the body."""
        try:
            digest = self._authenticator.worker_digest(request.headers.get("Authorization"))
            check_digest(await read_body(request, body_limit), digest)
        except (Unauthenticated, Forbidden):
            self._count(request, _Kind.FAILURES, self._neighbourhood(request), self._limit)
            raise

    def _admit(self, request: web.Request, access: Access) -> None:
        """Authenticate the caller and count the call.

        Raises:
            Unauthenticated, Forbidden: the caller may not call this endpoint.
            RateLimited: the caller has no quota left.
        """
        if access is Access.SCRAPER:
            self._count(request, _Kind.SCRAPES, self._neighbourhood(request), SCRAPES_PER_MINUTE)
        if access is Access.ANYBODY:
            self._count(request, _Kind.ADDRESS, self._neighbourhood(request), self._limit)
        if not access.is_identified:
            return
        try:
            caller = self._authenticator.identify(request.headers.get("Authorization"))
        except (Unauthenticated, Forbidden):
            # Only failures are counted by address: nobody can lock out others behind the same address.
            self._count(request, _Kind.FAILURES, self._neighbourhood(request), self._limit)
            raise
        request[CALLER] = caller
        if caller.is_operator:
            self._count(request, _Kind.KEY, caller.api_key, self._limit * OPERATOR_FACTOR)
        else:
            self._count(request, _Kind.PARTICIPANT, (caller.room_name, caller.identity), self._limit)
        if access is Access.OPERATOR:
            caller.require_operator()

    def _count(self, request: web.Request, kind: _Kind, key: Hashable, limit: int) -> None:
        if limit == 0:
            return
        quota = self._limiters[kind].take(key, limit)
        request[QUOTA] = quota
        if quota.retry_after_s:
            raise RateLimited(
                f"More than {limit} calls a minute; retry in {quota.retry_after_s} s",
                retry_after_s=quota.retry_after_s,
            )

    def _neighbourhood(self, request: web.Request) -> str:
        return neighbourhood(address_of(request, self._trusted_proxies))


async def add_quota_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`; the form is that of draft-ietf-httpapi-ratelimit-headers."""
    if quota := request.get(QUOTA):
        response.headers["RateLimit-Policy"] = f'"default";q={quota.limit};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"default";r={quota.remaining};t={quota.reset_s}'
