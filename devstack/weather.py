"""A faulty proxy between the service and LiveKit: slow, answers errors, or drops connections."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from devstack.local_server import LocalServer
from devstack.ports import LOOPBACK, free_port

_FORWARD_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What happens to one call."""

    delay_s: float = 0
    #: Returned instead of LiveKit's status, like a proxy, with a page that is not Twirp's JSON.
    status: int | None = None
    #: Drop the connection without an answer.
    reset: bool = False
    #: LiveKit receives the call and acts before the failure.
    acts: bool = False

    @property
    def is_fine(self) -> bool:
        return self.status is None and not self.reset


FINE = Forecast()


class Weather:
    """A proxy to LiveKit at `url`, with configurable faults; `async with` opens and closes it."""

    def __init__(self, livekit_url: str) -> None:
        """`livekit_url`: the HTTP URL."""
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        #: Decides what happens to a call, by its method name (`CreateDispatch`).
        self.forecast: Callable[[str], Forecast] = lambda _method: FINE
        #: Received calls, by method.
        self.calls: Counter[str] = Counter()
        self._port = port
        self._livekit_url = livekit_url
        self._server: LocalServer | None = None
        self._client: aiohttp.ClientSession | None = None

    def clear_up(self) -> None:
        self.forecast = lambda _method: FINE

    def turn(self, forecast: Forecast) -> None:
        """Use the same forecast for every call."""
        self.forecast = lambda _method: forecast

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_TIMEOUT_S))
        # Calls that wait in a delay do not hold up the shutdown.
        self._server = LocalServer(app, self._port, handler_cancellation=True, shutdown_timeout=0.1)
        await self._server.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server:
            await self._server.stop()
        if self._client:
            await self._client.close()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        method = request.path.rpartition("/")[2]
        self.calls[method] += 1
        forecast = self.forecast(method)
        body = await request.read()
        answer = await self._forward(request, body) if forecast.acts else None
        await asyncio.sleep(forecast.delay_s)
        if forecast.reset and request.transport:
            request.transport.abort()
        if not forecast.is_fine:
            status = forecast.status or web.HTTPBadGateway.status_code
            return web.Response(status=status, text="<html>bad weather</html>", content_type="text/html")
        return answer or await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        if self._client is None:
            raise RuntimeError("the proxy was not opened")
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type")
            if name in request.headers
        }
        try:
            async with self._client.request(
                request.method, self._livekit_url + request.path_qs, data=body, headers=headers
            ) as answer:
                return web.Response(
                    status=answer.status, body=await answer.read(), content_type=answer.content_type
                )
        except aiohttp.ClientError:
            return web.Response(status=web.HTTPBadGateway.status_code)
