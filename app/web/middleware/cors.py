"""Which web pages of other origins may call: none, but for those that are configured."""

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from app.web.error_responses import Handler

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = {"Access-Control-Expose-Headers": "RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"}


def cors_middleware(origins: Sequence[str], *, cookies: bool = False) -> Middleware:
    """Answers preflights, and marks every answer, failures too, for the origins that may read it.

    With `cookies` those that are named may send and get them; `*` names none.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        allowed = origin is not None and (origin in origins or "*" in origins)
        preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = web.Response(status=204) if preflight and allowed else await handler(request)
        if origins:
            response.headers["Vary"] = "Origin"
        if allowed and origin:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers.update(_ALLOWED if preflight else _EXPOSED)
            if cookies and origin in origins:
                response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    return middleware
