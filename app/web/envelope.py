"""The envelope around every handler.

It adds a request id, an answer to every failure, headers, a count in the metrics, and a line in the log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiohttp import web
from multidict import CIMultiDict

from app.clock import Clock
from app.errors import Busy
from app.lifecycle import SECOND_US
from app.logs.context import bind
from app.metrics.registry import Metrics
from app.web.calls import WAITS
from app.web.connections import Connection
from app.web.error_responses import render_failure
from app.web.keys import READINESS_PATH
from app.web.refusals import Refusals
from app.web.request_id import HEADER, REQUEST_ID, assign_request_id

logger = logging.getLogger(__name__)

Request = TypeVar("Request", bound=web.BaseRequest)

_SLOW_US = SECOND_US
#: Any other method is counted as `other`: a caller must not be able to add label values.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Envelope:
    def __init__(
        self,
        clock: Clock,
        metrics: Callable[[], Metrics],
        headers: Mapping[str, str],
        refusals: Refusals,
    ) -> None:
        """`headers` are added to every response that does not set them itself."""
        self._clock = clock
        self._metrics = metrics
        self._headers = CIMultiDict(headers)
        self._refusals = refusals

    async def answer(
        self,
        request: Request,
        route: str | None,
        handler: Callable[[Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Answer a request by its handler; `route` is its path template, None where no route matches."""
        request[REQUEST_ID] = assign_request_id(request)
        began_at = self._clock.now()
        status, is_timed, is_refused = web.HTTPInternalServerError.status_code, False, False
        try:
            try:
                response = await handler(request)
            except web.HTTPRedirection as redirection:
                status = redirection.status
                raise
            except asyncio.CancelledError:
                if not _is_given_up(request):
                    raise
                response = render_failure(Busy("The service is stopping; retry"))
            except Exception as error:  # noqa: BLE001 - every failure gets an answer
                response = render_failure(error)
                is_refused = self._refusals.note(request, route, error)
            status = response.status
            # A stream is meant to last, and so is a wait: their durations are no response times.
            is_timed = isinstance(response, web.Response) and WAITS not in request
        finally:
            took_us = self._clock.now() - began_at
            self._record(request.method, route, status, took_us, is_timed=is_timed)
            if not is_refused:
                _log(request.method, route, status, took_us, is_timed=is_timed)
        return response

    def note(self, request_id: str, method: str, route: str, status: int, took_us: int) -> None:
        """Record a request that was answered without the envelope."""
        self._record(method, route, status, took_us, is_timed=True)
        if logger.isEnabledFor(_level(route, status, is_slow=took_us > _SLOW_US)):
            with bind(request_id):
                _log(method, route, status, took_us, is_timed=True)

    def headers_of(self, response: web.StreamResponse) -> dict[str, str]:
        """The headers of a response that is sent without the envelope, but for its date and its id."""
        return dict(self._headers) | dict(response.headers)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        resource = request.match_info.route.resource
        return await self.answer(request, resource.canonical if resource else None, handler)

    async def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """For `on_response_prepare`, so that streams and failures get them too."""
        # Versions only help attackers.
        response.headers.popall("Server", None)
        # What aiohttp answers by itself, without the middleware, has no id yet.
        response.headers[HEADER] = request.get(REQUEST_ID) or assign_request_id(request)
        response.headers.merge(self._headers)

    def _record(self, method: str, route: str | None, status: int, took_us: int, *, is_timed: bool) -> None:
        self._metrics().note_request(
            method if method in _METHODS else "other",
            route or "unmatched",
            status,
            took_us / SECOND_US if is_timed else None,
        )


def _log(method: str, route: str | None, status: int, took_us: int, *, is_timed: bool) -> None:
    level = _level(route, status, is_slow=is_timed and took_us > _SLOW_US)
    if logger.isEnabledFor(level):
        # The route, not the path: the caller chooses the path, and its query may contain a token.
        fields = {
            "action": "request",
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(took_us / 1_000, 1),
        }
        logger.log(level, "Request answered", extra=fields)


def _is_given_up(request: web.BaseRequest) -> bool:
    """Whether a stop has cancelled the task of this request, which goes on to answer."""
    task, protocol = asyncio.current_task(), request.protocol
    if task is None or not (isinstance(protocol, Connection) and protocol.is_given_up):
        return False
    task.uncancel()
    return True


def _level(route: str | None, status: int, *, is_slow: bool) -> int:
    """DEBUG for success, INFO for rejected requests and those over a second, WARNING for failures."""
    if route == READINESS_PATH and status == web.HTTPServiceUnavailable.status_code:
        # An answer, not a failure, and asked for each second by whoever waits for the service. What keeps it
        # from being ready is logged where it happens.
        return logging.DEBUG
    if status >= web.HTTPInternalServerError.status_code:
        return logging.WARNING
    return logging.INFO if is_slow or status >= web.HTTPBadRequest.status_code else logging.DEBUG
