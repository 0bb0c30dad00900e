"""A webhook relay between LiveKit and the services of tests.

LiveKit has one fixed webhook address for its whole life. The relay forwards webhooks to the services that run
at the moment, and can lose or reject them on purpose.
"""

import asyncio
import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import aiohttp
from aiohttp import web

from devstack.local_server import LocalServer
from devstack.ports import LOOPBACK

_FORWARDED_HEADERS = ("Authorization", "Content-Type")
_FORWARD_TIMEOUT_S = 10.0


class Mode(Enum):
    """What the relay does with a webhook: forward it; answer 200 and lose it; answer 503."""

    FORWARD = auto()
    DROP = auto()
    REFUSE = auto()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One received webhook."""

    event: str
    room_name: str
    body: dict[str, Any]
    #: The body as LiveKit signed it, so that a test can resend it.
    raw: bytes
    headers: dict[str, str]
    status: int


class WebhookRelay:
    """The webhook address of a LiveKit server, at `url`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}/webhook"
        self.seen: list[Seen] = []
        self.targets: list[str] = []
        self.mode = Mode.FORWARD
        self._port = port
        self._server: LocalServer | None = None
        self._client: aiohttp.ClientSession | None = None
        self._arrived = asyncio.Condition()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/webhook", self._take)
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_TIMEOUT_S))
        self._server = LocalServer(app, self._port)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()

    def events(self, room_name: str, event: str | None = None) -> list[Seen]:
        """The received webhooks of one room, oldest first."""
        return [one for one in self.seen if one.room_name == room_name and event in (None, one.event)]

    async def wait_for(
        self, room_name: str, event: str, *, count: int = 1, timeout_s: float = 15.0
    ) -> list[Seen]:
        """Return once `count` webhooks of this kind have arrived for the room."""
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                await self._arrived.wait_for(lambda: len(self.events(room_name, event)) >= count)
        except TimeoutError:
            came = [one.event for one in self.events(room_name)]
            raise TimeoutError(
                f"no {count} x {event} for {room_name} in {timeout_s:g} s, only {came}"
            ) from None
        return self.events(room_name, event)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: request.headers[name] for name in _FORWARDED_HEADERS if name in request.headers}
        status = await self._decide(body, headers)
        event = json.loads(body)
        room_name = event.get("room", {}).get("name", "")
        self.seen.append(
            Seen(
                event=event.get("event", ""),
                room_name=room_name,
                body=event,
                raw=body,
                headers=headers,
                status=status,
            )
        )
        async with self._arrived:
            self._arrived.notify_all()
        return web.Response(status=status)

    async def _decide(self, body: bytes, headers: dict[str, str]) -> int:
        match self.mode:
            case Mode.DROP:
                return 200
            case Mode.REFUSE:
                return 503
            case Mode.FORWARD:
                statuses = [await self._forward(target, body, headers) for target in list(self.targets)]
                return max(statuses, default=200)

    async def _forward(self, target: str, body: bytes, headers: dict[str, str]) -> int:
        if self._client is None:
            raise RuntimeError("the relay was not started")
        try:
            async with self._client.post(target, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            # LiveKit must see the dead service and retry.
            return 503
