"""One line for each request that was answered: seldom seen, unless it was slow or went wrong."""

import logging

from aiohttp import web
from aiohttp.typedefs import Middleware

from app.clock import Clock
from app.web.error_responses import Handler

logger = logging.getLogger(__name__)

_SLOW_US = 1_000_000


def access_log_middleware(clock: Clock) -> Middleware:
    """Logs every request, whatever becomes of it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_at = clock.now()
        status, is_whole = 500, False
        try:
            response = await handler(request)
            status, is_whole = response.status, isinstance(response, web.Response)
        except web.HTTPException as answer:
            status = answer.status
            raise
        finally:
            took_us = clock.now() - began_at
            resource = request.match_info.route.resource
            # A stream is meant to last.
            log_request(
                request.method, resource.canonical if resource else None, status, took_us, is_whole=is_whole
            )
        return response

    return middleware


def log_request(method: str, route: str | None, status: int, took_us: int, *, is_whole: bool = True) -> None:
    """DEBUG for what went well, INFO for what took over a second or was refused, WARNING for failures.

    `route` is the template; the path itself is whatever the caller wrote, and its query may hold a token.
    """
    level = _level(status, is_slow=took_us > _SLOW_US and is_whole)
    if logger.isEnabledFor(level):
        fields = {
            "action": "request",
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(took_us / 1_000, 1),
        }
        logger.log(level, "A request was answered", extra=fields)


def _level(status: int, *, is_slow: bool) -> int:
    if status >= web.HTTPInternalServerError.status_code:
        return logging.WARNING
    return logging.INFO if is_slow or status >= web.HTTPBadRequest.status_code else logging.DEBUG
