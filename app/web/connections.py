"""Open connections: how many at once, and how long a request's head may take."""

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.config.settings import ANY_HOST
from app.errors import Busy
from app.logs.context import bind
from app.web.error_responses import error_body
from app.web.keys import LANES, Lane
from app.web.request_id import HEADER, make_request_id
from app.web.security_headers import HEADERS

#: Below the 1,024 files that a process may have open by default, with room for LiveKit and the database.
CONNECTION_LIMIT = 800
#: From the start of a connection, or the first byte of a further request, to the end of the head.
HEAD_TIMEOUT_S = 10.0
#: How often heads are checked within that time; one may be late by one check.
_CHECKS_PER_TIMEOUT = 10

#: What binding to IPv6 ends in where the kernel or the container has none.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

_OPTIONS: dict[str, Any] = {
    # The envelope logs requests.
    "access_log": None,
    "max_headers": 64,
    # How long a body is read on after the answer.
    "lingering_time": 0.5,
}


class ConnectionLimiter:
    """Makes the protocol of each connection, for `loop.create_server`.

    At the limit the connection that has been idle longest is closed, so that idle ones keep nobody out. With
    a request under way on each, a new connection gets 503.
    """

    def __init__(
        self,
        server: web.Server,
        lanes: Mapping[tuple[str, str], Lane],
        *,
        limit: int = CONNECTION_LIMIT,
        head_timeout_s: float = HEAD_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._lanes = lanes
        self._limit = limit
        self.head_timeout_s = head_timeout_s
        self._open: set[Connection] = set()
        #: The next check of overdue heads; None while no connection is open.
        self._head_check: asyncio.TimerHandle | None = None
        #: Connections without a request under way, idle longest first.
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._handle = server.request_handler
        server.request_handler = self._handle_request

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> "Connection":
        return Connection(self, self._server)

    def admit(self, connection: "Connection") -> bool:
        if len(self._open) >= self._limit:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self.forget(oldest)
            oldest.force_close()
        self._open.add(connection)
        self._idle[connection] = None
        if self._head_check is None:
            self._check_heads()
        return True

    def mark_idle(self, connection: "Connection") -> None:
        """Its request is answered."""
        if connection in self._open:
            self._idle[connection] = None

    def forget(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _check_heads(self) -> None:
        """One timer for all connections: one per request would cost more than most requests do."""
        loop = asyncio.get_running_loop()
        self._head_check = None
        for connection in [one for one in self._idle if one.is_overdue(loop.time() - self.head_timeout_s)]:
            connection.force_close()
        if self._open:
            self._head_check = loop.call_later(self.head_timeout_s / _CHECKS_PER_TIMEOUT, self._check_heads)

    async def _handle_request(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, Connection):
            self._idle.pop(request.protocol, None)
            request.protocol.complete_head()
        lane = self._lanes.get((request.method, request.raw_path))
        return await (lane or self._handle)(request)


class Connection(web.RequestHandler):
    """aiohttp's protocol with a time limit for each request's head, and no log line for what is not HTTP."""

    def __init__(self, limiter: ConnectionLimiter, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_OPTIONS)
        self._limiter = limiter
        self._is_answering = False
        #: When the wait for the current head began; None while no head is awaited.
        self._head_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._limiter.admit(self):
            self.force_close()
            if isinstance(transport, asyncio.Transport):
                transport.write(_too_many_connections())
            transport.close()
            return
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if not self._is_answering and self._head_since_s is None:
            self._expect_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.complete_head()
        self._limiter.forget(self)
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # aiohttp's default shows its version and Python's; the envelope removes the header altogether.
        resp.headers.setdefault("Server", "agent-lifecycle")
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_answering = False
            self._limiter.mark_idle(self)

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

    def complete_head(self) -> None:
        self._is_answering = True
        self._head_since_s = None

    def is_overdue(self, since_s: float) -> bool:
        """Whether a head has been awaited since `since_s`, by the loop's clock, or longer."""
        return self._head_since_s is not None and self._head_since_s <= since_s

    def _expect_head(self) -> None:
        self._head_since_s = self._loop.time()


async def listen(runner: web.AppRunner, host: str, port: int, **limits: Any) -> asyncio.Server:
    """Listen for a runner that is set up; close the returned server before cleaning up the runner."""
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    limiter = ConnectionLimiter(runner.server, runner.app[LANES], **limits)
    loop = asyncio.get_running_loop()
    if host == ANY_HOST:
        return await loop.create_server(limiter, sock=open_any_host(port))
    return await loop.create_server(limiter, host, port)


def open_any_host(port: int) -> socket.socket:
    """A socket for IPv4 and IPv6; for IPv4 alone on a machine without IPv6. Raises: OSError."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server((ANY_HOST, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))


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
