"""Error responses, all in one JSON form."""

import logging

import msgspec
from aiohttp import web

from app.errors import AtCapacity, ServiceError, Unauthenticated
from app.logs.context import request_id

logger = logging.getLogger(__name__)


class QueuePlace(msgspec.Struct, rename="camel", kw_only=True):
    """Of a call that has waited for a place."""

    #: 1 is the next.
    position: int
    waited_ms: int


class ErrorBody(msgspec.Struct, kw_only=True):
    code: str
    message: str
    retryable: bool
    request_id: str = msgspec.field(name="requestId")
    success: bool = False
    #: Of a call that has waited for a place in vain: where it stood at last.
    queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET


#: Codes for aiohttp's own error responses.
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def render_failure(error: Exception) -> web.Response:
    """The answer to any exception of a handler. An unexpected one is logged, and its text is not sent."""
    if isinstance(error, ServiceError):
        return render(error)
    if isinstance(error, web.HTTPException):
        code = _HTTP_CODES.get(error.status, "http_error")
        response = _response(error_body(code, error.reason, retryable=False), error.status)
        response.headers.update({name: error.headers[name] for name in ("Allow",) if name in error.headers})
        return response
    logger.error("Unexpected error while answering a request", exc_info=error, extra={"action": "request"})
    return render(ServiceError("Internal error; see the service log for this request id"))


def render(error: ServiceError) -> web.Response:
    body = error_body(error.code, str(error), retryable=error.retryable, queue=_queue_of(error))
    response = _response(body, error.status)
    if error.retry_after_s:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == Unauthenticated.status:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _queue_of(error: ServiceError) -> QueuePlace | msgspec.UnsetType:
    if not isinstance(error, AtCapacity) or error.position is None or error.waited_ms is None:
        return msgspec.UNSET
    return QueuePlace(position=error.position, waited_ms=error.waited_ms)


def error_body(
    code: str, message: str, *, retryable: bool, queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET
) -> bytes:
    body = ErrorBody(
        code=code, message=message, retryable=retryable, request_id=request_id.get() or "", queue=queue
    )
    return msgspec.json.encode(body)


def _response(body: bytes, status: int) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
