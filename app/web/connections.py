"""One connection: aiohttp's protocol, with limits for what its peer may do."""

import asyncio
import socket
from typing import Any, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from app.errors import Busy
from app.logs.context import bind
from app.web.error_responses import error_body
from app.web.raw_answers import raw_answer
from app.web.request_id import HEADER, make_request_id
from app.web.security_headers import HEADERS

#: What the kernel keeps of an answer that is not read, for one connection; it would take several megabytes.
_SEND_BUFFER = 128 * 1024
#: For how long a refused connection stays open. To close one whose request was not read would reset it, and
#: its client would not see the answer.
_REFUSED_FOR_S = 1.0

_OPTIONS: dict[str, Any] = {
    # The envelope logs requests.
    "access_log": None,
    "max_headers": 64,
    # How long a body is read on after the answer.
    "lingering_time": 0.5,
}


class Places(Protocol):
    """Who keeps the connections; see `ConnectionLimiter`."""

    def admit(self, connection: "Connection") -> bool: ...

    def refuse(self, connection: "Connection") -> bool: ...

    def await_peer(self, connection: "Connection") -> None: ...

    def work(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Connection(web.RequestHandler):
    """aiohttp's protocol with time limits for its peer, and no log line for what is not HTTP."""

    def __init__(self, places: Places, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_OPTIONS)
        self._places = places
        #: Not aiohttp's `transport`, which it drops when it begins to close: unsent data may keep one open.
        self._wire: asyncio.Transport | None = None
        self._is_refused = False
        self._is_answering = False
        #: When the wait for the current head began; None while no head is awaited.
        self._head_since_s: float | None = None
        #: A body that has not arrived in full; None if there is none.
        self._body: StreamReader | None = None
        #: The task of the handler, while it works.
        self._handler: asyncio.Task[Any] | None = None
        #: Whether the handler was cancelled because the service stops.
        self.is_given_up = False
        #: The bytes that the peer had not read at the last check, and since when it reads nothing.
        self._unread = 0
        self._reads_nothing_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._wire = transport
        if not self._places.admit(self):
            self._refuse()
            return
        super().connection_made(transport)
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._is_answering and self._head_since_s is None:
            self._expect_head()
        super().data_received(data)
        if self._body is not None and self._body.is_eof():
            self._body = None
            if self._handler is not None:
                self._places.work(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._head_since_s = None
        self._places.forget(self)
        if not self._is_refused:
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._places.await_peer(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads_nothing_since_s = self._loop.time()
        if self._handler is not None and self._body is None:
            self._places.work(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # aiohttp's default shows its version and Python's; the envelope removes the header altogether.
        resp.headers.setdefault("Server", "agent-lifecycle")
        self._handler = None
        self._places.await_peer(self)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_answering = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not HTTP. Anybody can send them: they are neither echoed nor logged."""
        if status != 400:  # noqa: PLR2004 - aiohttp's status for what it cannot parse
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=400, headers=HEADERS, content_type="application/json")
        with bind(make_request_id()):
            response.body = error_body("malformed", "Invalid HTTP request", retryable=False)
        response.force_close()
        return response

    def begin(self, body: StreamReader) -> None:
        """Its head is complete, and its handler begins, in this task."""
        self._is_answering = True
        self._head_since_s = None
        self._unread = 0
        self._handler = asyncio.current_task()
        if body.is_eof():
            self._places.work(self)
        else:
            self._body = body

    def is_overdue(self, since_s: float) -> bool:
        """Whether a head has been awaited since `since_s`, by the loop's clock, or longer."""
        return self._head_since_s is not None and self._head_since_s <= since_s

    def is_stuck(self, now_s: float, timeout_s: float) -> bool:
        """Whether the peer has read nothing for this time; to be called in each check."""
        unread = self._wire.get_write_buffer_size() if self._wire else 0
        if unread < self._unread or self._unread == 0:
            self._reads_nothing_since_s = now_s
        self._unread = unread
        return unread > 0 and now_s - self._reads_nothing_since_s >= timeout_s

    def put_out(self) -> None:
        """Close it now: to close it in order would wait for a peer that reads nothing."""
        self.force_close()
        if self._wire is not None:
            self._wire.abort()

    def give_up(self) -> None:
        """See `ConnectionLimiter.give_up`."""
        if self._handler is None:
            self.put_out()
        elif not self.is_given_up:
            self.is_given_up = True
            self._handler.cancel()

    def _expect_head(self) -> None:
        self._head_since_s = self._loop.time()

    def _refuse(self) -> None:
        self._is_refused = True
        self.force_close()
        if self._wire is None:
            return
        self._wire.write(_too_many_connections())
        if self._places.refuse(self) and self._wire.can_write_eof():
            self._wire.write_eof()
            self._loop.call_later(_REFUSED_FOR_S, self.put_out)
        else:
            self._wire.close()


def _too_many_connections() -> bytes:
    """The whole answer to a connection beyond the limit; nothing is read from it."""
    request_id = make_request_id()
    with bind(request_id):
        body = error_body(Busy.code, "Too many connections are open; retry", retryable=True)
    headers = {
        "Content-Type": "application/json",
        "Connection": "close",
        "Retry-After": str(Busy.retry_after_s),
        HEADER: request_id,
    }
    return raw_answer(Busy.status, headers | dict(HEADERS), body)
