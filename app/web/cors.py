"""CORS: only pages of the configured origins may call the service."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id, traceparent, tracestate",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = {"Access-Control-Expose-Headers": "RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"}


class Cors:
    """Answers preflights, and adds CORS headers to every response to an allowed origin, failures too.

    With `cookies`, origins that are listed by name may send and receive cookies; `*` does not count.
    """

    def __init__(self, origins: Sequence[str], *, cookies: bool) -> None:
        self._origins = origins
        self._cookies = cookies

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._allowed(request) and _is_preflight(request):
            return web.Response(status=204)
        return await handler(request)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `on_response_prepare`."""
        if self._origins:
            response.headers["Vary"] = "Origin"
        if origin := self._allowed(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers.update(_ALLOWED if _is_preflight(request) else _EXPOSED)
            if self._cookies and origin in self._origins:
                response.headers["Access-Control-Allow-Credentials"] = "true"

    def _allowed(self, request: web.Request) -> str | None:
        """The request's origin, if it may read the answer; None otherwise, or without an origin."""
        origin = request.headers.get("Origin")
        return origin if origin and (origin in self._origins or "*" in self._origins) else None


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
