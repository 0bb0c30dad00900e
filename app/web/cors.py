"""Which web pages of other origins may call: none, but for those that are configured."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = {"Access-Control-Expose-Headers": "RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"}


class Cors:
    """Answers preflights, and marks every answer, failures too, for the origins that may read it.

    With `cookies` those that are named may send and get them; `*` names none.
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
        """The page's origin; None where it may not read the answer, or there is no page."""
        origin = request.headers.get("Origin")
        return origin if origin and (origin in self._origins or "*" in self._origins) else None


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
