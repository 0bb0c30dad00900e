"""Open connections: how many at once, and how long a peer may keep one waiting."""

import asyncio
from collections import OrderedDict

from aiohttp import web

from app.web.connections import Connection
from app.web.webhook import WebhookIntake
from app.web.webhook_connections import WebhookConnection

#: Below the 1,024 files that a process may have open by default, with room for LiveKit and the database.
CONNECTION_LIMIT = 800
#: From the start of a connection, or the first byte of a further request, to the end of the head.
HEAD_TIMEOUT_S = 10.0
#: How long a peer may read nothing of what was sent to it.
READ_TIMEOUT_S = 10.0
#: How often both are checked within that time; one may be late by one check.
_CHECKS_PER_TIMEOUT = 10

#: How many refused connections may be open at once.
_REFUSED_LIMIT = 100


class ConnectionLimiter:
    """Makes the protocol of each connection, for `loop.create_server`.

    At the limit the connection is put out that has waited longest for its peer: for a head, for a body, or
    for the peer to read an answer. So nobody who is slow keeps others out. With work under way on each, a new
    connection gets 503.
    """

    def __init__(
        self,
        server: web.Server,
        intake: WebhookIntake,
        *,
        limit: int = CONNECTION_LIMIT,
        head_timeout_s: float = HEAD_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._intake = intake
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

    def __call__(self) -> WebhookConnection:
        return WebhookConnection(self, self._server, self._intake)

    def admit(self, connection: Connection) -> bool:
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

    def refuse(self, connection: Connection) -> bool:
        """Whether a connection that was not admitted may stay until its client has read why."""
        if len(self._refused) >= _REFUSED_LIMIT:
            return False
        self._refused.add(connection)
        return True

    def await_peer(self, connection: Connection) -> None:
        """It waits for its peer from now on, if it did not yet."""
        if connection in self._open:
            self._waiting.setdefault(connection)

    def work(self, connection: Connection) -> None:
        """Its peer waits for us."""
        self._waiting.pop(connection, None)

    def forget(self, connection: Connection) -> None:
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
        return await self._handle(request)
