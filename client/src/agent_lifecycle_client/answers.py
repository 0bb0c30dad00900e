"""How an HTTP answer becomes a model or an error, and which errors are worth another try."""

from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import ValidationError

from agent_lifecycle_client.calls import Call
from agent_lifecycle_client.errors import (
    BY_CODE,
    Busy,
    DatabaseUnavailable,
    LiveKitTimeout,
    LiveKitUnavailable,
    RateLimited,
    ServiceError,
    ServiceUnreachable,
    UnexpectedAnswer,
)
from agent_lifecycle_client.model_base import Model
from agent_lifecycle_client.models import ErrorBody

T = TypeVar("T", bound=Model)

#: A caller does not wait longer than this for the next attempt; it gets the error instead.
LONGEST_WAIT_S = 10.0

#: The service has changed nothing. Not those that say how an agent fares: that is what the caller asked.
_NOTHING_DONE = (RateLimited, Busy, LiveKitUnavailable, DatabaseUnavailable)
#: The request has not left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def read(call: Call[T], response: httpx.Response) -> T:
    """The answer to the call.

    Raises:
        ServiceError: the service has answered with an error.
        UnexpectedAnswer: it was not the service, or not one that this version understands.
    """
    if response.status_code in call.statuses:
        try:
            return call.answer.model_validate_json(response.content)
        except ValidationError as error:
            raise _unexpected(response) from error
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError as error:
        raise _unexpected(response) from error
    raise BY_CODE.get(body.code, ServiceError)(
        body.message,
        status=response.status_code,
        code=body.code,
        retryable=body.retryable,
        request_id=body.request_id,
        retry_after_s=_seconds(response.headers.get("Retry-After")),
        queue=body.queue,
    )


def retry_on(call: Call[T]) -> Callable[[Exception], bool | float]:
    """Whether the call is sent again after an error, or after how many seconds."""

    def decide(error: Exception) -> bool | float:
        if isinstance(error, _NOTHING_DONE):
            return _wait(error.retry_after_s)
        if isinstance(error, ServiceUnreachable):
            return call.is_repeatable or isinstance(error.__cause__, _NOT_SENT)
        if isinstance(error, UnexpectedAnswer):
            return call.is_repeatable and error.retryable
        return call.is_repeatable and isinstance(error, LiveKitTimeout)

    return decide


def origin(url: httpx.URL) -> str:
    """The part of a URL that an error may show: no user, no query."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _wait(retry_after_s: float | None) -> bool | float:
    if retry_after_s is None:
        return True
    return retry_after_s if retry_after_s <= LONGEST_WAIT_S else False


def _unexpected(response: httpx.Response) -> UnexpectedAnswer:
    kind = response.headers.get("Content-Type", "no content type")
    return UnexpectedAnswer(
        f"Not an answer of the service: {response.status_code} ({kind}) from {origin(response.request.url)}",
        status=response.status_code,
    )


def _seconds(text: str | None) -> float | None:
    # The service sends seconds; the HTTP date of a proxy is not for us.
    return float(text) if text and text.isdecimal() else None
