"""What can go wrong, each with the status and the code that a caller sees, and the one place that maps it."""

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from app.logs.context import request_id

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServiceError(Exception):
    """Anything that is answered with other than success."""

    status = 500
    code = "internal"
    retryable = False
    retry_after_s: int | None = None


class Malformed(ServiceError):
    """The request cannot be read."""

    status, code = 400, "malformed"


class Unauthenticated(ServiceError):
    """Nobody has said who asks, or it is not true."""

    status, code = 401, "unauthenticated"


class Forbidden(ServiceError):
    """The token is good, but for something else."""

    status, code = 403, "forbidden"


class NotFound(ServiceError):
    status, code = 404, "not_found"


class TooSlow(ServiceError):
    """The body did not come in time."""

    status, code, retryable = 408, "too_slow", True


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class Invalid(ServiceError):
    """A field can be read, but is wrong."""

    status, code = 422, "invalid"


class RateLimited(ServiceError):
    """This caller has made too many calls; nothing was looked at."""

    status, code, retryable = 429, "rate_limited", True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LiveKitRefused(ServiceError):
    """LiveKit answered that it will not do it; asking again is no use until something is changed."""

    status, code = 502, "livekit_refused"


class Busy(ServiceError):
    """The service is stopping, or its queue is full."""

    status, code, retryable, retry_after_s = 503, "busy", True, 1


class LiveKitUnavailable(ServiceError):
    """LiveKit could not be asked, so nothing is known and nothing is changed."""

    status, code, retryable, retry_after_s = 503, "livekit_unavailable", True, 5


class DatabaseUnavailable(ServiceError):
    status, code, retryable, retry_after_s = 503, "database_unavailable", True, 5


class LiveKitUnreachable(LiveKitUnavailable):
    """No connection to LiveKit came about: whatever it was to do, it has not done."""


class LiveKitTimeout(LiveKitUnavailable):
    """LiveKit did not answer in time: what it was asked to do may or may not have been done."""

    status, code = 504, "livekit_timeout"


class ErrorBody(msgspec.Struct, kw_only=True):
    code: str
    message: str
    retryable: bool
    request_id: str = msgspec.field(name="requestId")
    success: bool = False


#: What aiohttp itself answers, in our words.
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def render(error: ServiceError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    if error.status == Unauthenticated.status:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=error_body(error.code, str(error), retryable=error.retryable),
        status=error.status,
        headers=headers,
        content_type="application/json",
    )


def error_body(code: str, message: str, *, retryable: bool) -> bytes:
    body = ErrorBody(code=code, message=message, retryable=retryable, request_id=request_id.get() or "")
    return msgspec.json.encode(body)


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into the one JSON form, with a status that tells the truth."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - redirects are not failures
            raise
        code = _HTTP_CODES.get(error.status, "http_error")
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.Response(
            body=error_body(code, error.reason, retryable=False),
            status=error.status,
            headers=allowed,
            content_type="application/json",
        )
    except Exception as error:  # noqa: BLE001 - every failure is answered, and what is not ours is logged
        return render_failure(error)


def render_failure(error: Exception) -> web.Response:
    """The answer to whatever a handler raises; what nobody foresaw is logged, and not told."""
    if isinstance(error, ServiceError):
        return render(error)
    logger.error("A request failed in a way that nobody foresaw", exc_info=error, extra={"action": "request"})
    return render(ServiceError("something went wrong in the service; its log says what"))
