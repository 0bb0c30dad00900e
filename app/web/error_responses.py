"""Error responses: the one JSON form of every failure."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from app.errors import ServiceError, Unauthenticated, logger
from app.logs.context import request_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
