"""The connections that are open: how many at once, and how long one may take to say what it wants."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.errors import Busy
from app.logs.context import bind
from app.web.error_responses import error_body
from app.web.keys import LANES, Lane
from app.web.request_id import HEADER, make_request_id
from app.web.security_headers import HEADERS

#: Below the 1,024 files that a process may have open by default, with room for LiveKit and the database.
CONNECTION_LIMIT = 800
#: From a connection's first moment, or a further request's first byte, to the end of its head.
HEAD_TIMEOUT_S = 10.0
#: How late a head's time may be up, as a part of it.
_LOOKS_WITHIN_TIMEOUT = 10

_OPTIONS: dict[str, Any] = {
    # Ours is a middleware.
    "access_log": None,
    "max_headers": 64,
    # Whoever goes on sending after the answer is not listened to for long.
    "lingering_time": 0.5,
}


class ConnectionLimiter:
    """Makes the protocol of each connection, for `loop.create_server`.

    When all places are taken, whoever has been silent longest goes: idle connections, however many, keep
    nobody out. With a request under way on every one, a newcomer is told to come back.
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
        #: Looks after the heads of all connections; None while there are none.
        self._watch: asyncio.TimerHandle | None = None
        #: Those without a request under way, silent longest first.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._handle = server.request_handler
        server.request_handler = self._begin

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
            oldest.force_close()
        self._open.add(connection)
        self._waiting[connection] = None
        if self._watch is None:
            self._watch_heads()
        return True

    def rest(self, connection: "Connection") -> None:
        """Its request is answered."""
        if connection in self._open:
            self._waiting[connection] = None

    def forget(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def _watch_heads(self) -> None:
        """One timer for all: one for each request would cost more than most of them."""
        loop = asyncio.get_running_loop()
        self._watch = None
        for connection in [one for one in self._waiting if one.is_overdue(loop.time() - self.head_timeout_s)]:
            connection.force_close()
        if self._open:
            self._watch = loop.call_later(self.head_timeout_s / _LOOKS_WITHIN_TIMEOUT, self._watch_heads)

    async def _begin(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, Connection):
            self._waiting.pop(request.protocol, None)
            request.protocol.head_is_complete()
        lane = self._lanes.get((request.method, request.raw_path))
        return await (lane or self._handle)(request)


class Connection(web.RequestHandler):
    """aiohttp's own, with a limit of time for each request's head, and quiet about what is not HTTP."""

    def __init__(self, limiter: ConnectionLimiter, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_OPTIONS)
        self._limiter = limiter
        self._is_answering = False
        #: When the head that is awaited began; None while none is.
        self._head_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._limiter.admit(self):
            self.force_close()
            if isinstance(transport, asyncio.Transport):
                transport.write(_full())
            transport.close()
            return
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if not self._is_answering and self._head_since_s is None:
            self._expect_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.head_is_complete()
        self._limiter.forget(self)
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # aiohttp's own names it and Python, with their versions; the application takes the header out.
        resp.headers.setdefault("Server", "agent-lifecycle")
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_answering = False
            self._limiter.rest(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Say that this is not HTTP; it is anybody's, so that it is neither repeated nor worth a log line."""
        if status != 400:  # noqa: PLR2004 - what aiohttp gives to whatever it cannot parse
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=400, headers=HEADERS, content_type="application/json")
        with bind(make_request_id()):
            response.body = error_body("malformed", "this is not a good HTTP request", retryable=False)
        response.force_close()
        return response

    def head_is_complete(self) -> None:
        self._is_answering = True
        self._head_since_s = None

    def is_overdue(self, since_s: float) -> bool:
        """Whether a head has been awaited since `since_s` of the loop's time, or longer."""
        return self._head_since_s is not None and self._head_since_s <= since_s

    def _expect_head(self) -> None:
        self._head_since_s = self._loop.time()


async def listen(runner: web.AppRunner, host: str, port: int, **limits: Any) -> asyncio.Server:
    """Listen for a runner that is set up; close what this gives before the runner is cleaned up."""
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    limiter = ConnectionLimiter(runner.server, runner.app[LANES], **limits)
    return await asyncio.get_running_loop().create_server(limiter, host, port)


def _full() -> bytes:
    """The answer to one connection too many, which is not read any further."""
    request_id = make_request_id()
    with bind(request_id):
        body = error_body(Busy.code, "too many connections are open", retryable=True)
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
