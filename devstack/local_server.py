"""A web server on loopback, inside the process that uses it."""

import asyncio
from typing import Any

from aiohttp import web

from devstack.ports import LOOPBACK

#: asyncio accepts a connection, makes its transport and tells its protocol in one round of the loop each.
_ROUNDS_TO_OPEN = 3


class LocalServer:
    def __init__(self, app: web.Application, port: int, **options: Any) -> None:
        """`options` go to `web.AppRunner`."""
        self._runner = web.AppRunner(app, access_log=None, **options)
        self._port = port
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("the runner is not set up")
        self._listener = await asyncio.get_running_loop().create_server(
            self._runner.server, LOOPBACK, self._port, reuse_address=True
        )

    async def stop(self) -> None:
        if self._listener is not None:
            await self._stop_accepting(self._listener)
            self._listener.close()
        await self._runner.cleanup()

    async def _stop_accepting(self, listener: asyncio.Server) -> None:
        """Let accepted connections reach the runner, which closes only those that it knows.

        LiveKit's client connects at any moment, and Python 3.11 leaks a connection whose server is closed
        between accepting and opening it (cpython's `Server._attach`).
        """
        for listening in listener.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_ROUNDS_TO_OPEN):
            await asyncio.sleep(0)
