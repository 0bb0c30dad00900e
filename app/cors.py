"""Which web pages of other origins may call: none, but for those that are configured."""

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from app.errors import Handler

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = {"Access-Control-Expose-Headers": "Retry-After"}


def cors_middleware(origins: Sequence[str]) -> Middleware:
    """Answers preflights, and marks every answer, failures too, for the origins that may read it."""

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
        return response

    return middleware
