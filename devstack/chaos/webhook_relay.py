"""A webhook relay between LiveKit and the replicas: can lose webhooks, records acknowledged ones."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import web

from app.lifecycle.warm import is_holding_room
from app.livekit.webhooks import stored_id
from devstack.local_server import LocalServer
from devstack.ports import LOOPBACK

#: Those that the service stores; it answers 200 to the others too, and ignores them.
_KEPT = frozenset(
    {
        "room_started",
        "room_finished",
        "participant_joined",
        "participant_left",
        "participant_connection_aborted",
    }
)
_HEADERS = ("Authorization", "Content-Type")


class LossyRelay:
    """Receives a LiveKit server's webhooks and forwards each to a random replica."""

    def __init__(
        self,
        port: int,
        targets: Callable[[], Sequence[str]],
        rng: random.Random,
        *,
        lost: float = 0.0,
    ) -> None:
        """`lost`: the share that is answered 200 and not forwarded."""
        self.url = f"http://{LOOPBACK}:{port}/webhook"
        #: Ids of the events that a service answered 200 since the last `take_acknowledged`.
        self.acknowledged: list[str] = []
        self.refused = 0
        #: The sids of the participants whose leave LiveKit has reported.
        self.departed: set[str] = set()
        self._port = port
        self._targets = targets
        self._rng = rng
        self._lost = lost
        self._server: LocalServer | None = None
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/webhook", self._take)
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._server = LocalServer(app, self._port)
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()
        if self._client:
            await self._client.close()

    def take_acknowledged(self) -> list[str]:
        """The ids that were answered 200 since the last call."""
        taken, self.acknowledged = self.acknowledged, []
        return taken

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        event = json.loads(body)
        if event.get("event") == "participant_left":
            self.departed.add(event["participant"]["sid"])
        if self._rng.random() < self._lost:
            return web.Response()
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        status = await self._forward(body, headers)
        if status == web.HTTPOk.status_code:
            if _is_kept(event):
                self.acknowledged.append(stored_id(int(event.get("createdAt", 0)), event["id"]))
        else:
            self.refused += 1
        return web.Response(status=status)

    async def _forward(self, body: bytes, headers: dict[str, str]) -> int:
        targets = self._targets()
        if self._client is None or not targets:
            return web.HTTPServiceUnavailable.status_code
        try:
            async with self._client.post(self._rng.choice(targets), data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError):
            return web.HTTPServiceUnavailable.status_code


def _is_kept(event: dict[str, Any]) -> bool:
    """Whether the service promises to store it; those of holding rooms only wake the pool."""
    return event.get("event") in _KEPT and not is_holding_room(event["room"]["name"])
