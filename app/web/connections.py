"""Open connections: how many at once, and how long a peer may keep one waiting."""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.streams import StreamReader

from app.errors import Busy
from app.logs.context import bind
from app.web.error_responses import error_body
from app.web.keys import Lane
from app.web.request_id import HEADER, make_request_id
from app.web.security_headers import HEADERS

#: Below the 1,024 files that a process may have open by default, with room for LiveKit and the database.
CONNECTION_LIMIT = 800
#: From the start of a connection, or the first byte of a further request, to the end of the head.
HEAD_TIMEOUT_S = 10.0
#: How long a peer may read nothing of what was sent to it.
READ_TIMEOUT_S = 10.0
#: What the kernel keeps of an answer that is not read, for one connection; it would take several megabytes.
_SEND_BUFFER = 128 * 1024
#: How often both are checked within that time; one may be late by one check.
_CHECKS_PER_TIMEOUT = 10

#: How many refused connections may be open at once, and for how long. To close one whose request was not read
#: would reset it, and its client would not see the answer.
_REFUSED_LIMIT = 100
_REFUSED_FOR_S = 1.0

_OPTIONS: dict[str, Any] = {
    # The envelope logs requests.
    "access_log": None,
    "max_headers": 64,
    # How long a body is read on after the answer.
    "lingering_time": 0.5,
}


class ConnectionLimiter:
    """Makes the protocol of each connection, for `loop.create_server`.

    At the limit the connection is put out that has waited longest for its peer: for a head, for a body, or
    for the peer to read an answer. So nobody who is slow keeps others out. With work under way on each, a new
    connection gets 503.
    """

    def __init__(
        self,
        server: web.Server,
        lanes: Mapping[tuple[str, str], Lane],
        *,
        limit: int = CONNECTION_LIMIT,
        head_timeout_s: float = HEAD_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._lanes = lanes
        self._limit = limit
        self.head_timeout_s = head_timeout_s
        self.read_timeout_s = read_timeout_s
        self._open: set[Connection] = set()
        #: Those of them that wait for their peers, longest first.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._refused: set[Connection] = set()
        #: The next check of the time limits; None while no connection is open.
        self._next_check: asyncio.TimerHandle | None = None
        self._handle = server.request_handler
        server.request_handler = self._handle_request

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> "Connection":
        return Connection(self, self._server)

    def admit(self, connection: "Connection") -> bool:
        if len(self._open) >= self._limit:
            if not self._waiting:
                return False
            oldest = next(iter(self._waiting))
            self.forget(oldest)
            oldest.put_out()
        self._open.add(connection)
        self._waiting[connection] = None
        if self._next_check is None:
            self._check()
        return True

    def refuse(self, connection: "Connection") -> bool:
        """Whether a connection that was not admitted may stay until its client has read why."""
        if len(self._refused) >= _REFUSED_LIMIT:
            return False
        self._refused.add(connection)
        return True

    def await_peer(self, connection: "Connection") -> None:
        """It waits for its peer from now on, if it did not yet."""
        if connection in self._open:
            self._waiting.setdefault(connection)

    def work(self, connection: "Connection") -> None:
        """Its peer waits for us."""
        self._waiting.pop(connection, None)

    def forget(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._refused.discard(connection)

    def give_up(self) -> None:
        """End the requests under way: those that can still be answered are told that the service stops."""
        for connection in tuple(self._open):
            connection.give_up()

    def _check(self) -> None:
        """One timer for all connections: one per request would cost more than most requests do."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._next_check = None
        if self._open:
            interval_s = min(self.head_timeout_s, self.read_timeout_s) / _CHECKS_PER_TIMEOUT
            self._next_check = loop.call_later(interval_s, self._check)
        for connection in tuple(self._waiting):
            is_overdue = connection.is_overdue(now - self.head_timeout_s)
            if is_overdue or connection.is_stuck(now, self.read_timeout_s):
                connection.put_out()

    async def _handle_request(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, Connection):
            request.protocol.begin(request.content)
        lane = self._lanes.get((request.method, request.raw_path))
        return await (lane or self._handle)(request)


class Connection(web.RequestHandler):
    """aiohttp's protocol with time limits for its peer, and no log line for what is not HTTP."""

    def __init__(self, limiter: ConnectionLimiter, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_OPTIONS)
        self._limiter = limiter
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
        if not self._limiter.admit(self):
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
                self._limiter.work(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._head_since_s = None
        self._limiter.forget(self)
        if not self._is_refused:
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limiter.await_peer(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads_nothing_since_s = self._loop.time()
        if self._handler is not None and self._body is None:
            self._limiter.work(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # aiohttp's default shows its version and Python's; the envelope removes the header altogether.
        resp.headers.setdefault("Server", "agent-lifecycle")
        self._handler = None
        self._limiter.await_peer(self)
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
            self._limiter.work(self)
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
        if self._limiter.refuse(self) and self._wire.can_write_eof():
            self._wire.write_eof()
            self._loop.call_later(_REFUSED_FOR_S, self.put_out)
        else:
            self._wire.close()


def _too_many_connections() -> bytes:
    """The whole answer to a connection beyond the limit; nothing is read from it."""
    request_id = make_request_id()
    with bind(request_id):
        body = error_body(Busy.code, "Too many connections are open; retry", retryable=True)
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"Retry-After: {Busy.retry_after_s}",
        f"{HEADER}: {request_id}",
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
