"""The listening socket, and what a stop does to the connections that it has accepted."""

import asyncio
import errno
import socket
from typing import Any

from aiohttp import web

from app.config.settings import ANY_HOST
from app.web.connection_limiter import ConnectionLimiter
from app.web.webhook import WEBHOOK_INTAKE

#: How long requests under way have from the start of a stop. Who cannot be answered by then is told so.
GIVE_UP_AFTER_S = 3.0

#: A flood fills a short queue, and the kernel drops what comes then: its client tries again only after 1 s.
_BACKLOG = 1_024

#: What binding to IPv6 ends in where the kernel or the container has none.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class Listener:
    def __init__(self, server: asyncio.Server, limiter: ConnectionLimiter) -> None:
        self._server = server
        self._limiter = limiter

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def close(self, give_up_after_s: float = GIVE_UP_AFTER_S) -> None:
        """Accept nothing more, and give up what is still under way after this time.

        To call before the runner is cleaned up, which waits for the requests under way.
        """
        self._server.close()
        asyncio.get_running_loop().call_later(give_up_after_s, self._limiter.give_up)


async def listen(runner: web.AppRunner, host: str, port: int, **limits: Any) -> Listener:
    """Listen for a runner that is set up."""
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    limiter = ConnectionLimiter(runner.server, runner.app[WEBHOOK_INTAKE], **limits)
    loop = asyncio.get_running_loop()
    if host == ANY_HOST:
        server = await loop.create_server(limiter, sock=open_any_host(port), backlog=_BACKLOG)
    else:
        server = await loop.create_server(limiter, host, port, backlog=_BACKLOG)
    return Listener(server, limiter)


def open_any_host(port: int) -> socket.socket:
    """A socket for IPv4 and IPv6; for IPv4 alone on a machine without IPv6. Raises: OSError."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server((ANY_HOST, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))
