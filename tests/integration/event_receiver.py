"""A receiver of events, as another program has one: it checks each signature, and answers as it is told."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook

from app.config.event_endpoints import EventEndpoint, event_endpoints

SECRET = "whsec_" + "c2VjcmV0" * 4
BOUND_S = 60.0

Behaviour = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    id: str
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def room(self) -> str:
        return str(self.body["data"]["roomName"])

    @property
    def position(self) -> int:
        return int(self.body["data"]["position"])


@dataclass
class EventReceiver:
    """Takes everything, unless `behave` says otherwise for the room of an event."""

    behave: Callable[[str], Behaviour | None] = lambda _: None
    #: What was taken, in order.
    taken: list[Received] = field(default_factory=list)
    #: What came, whatever became of it.
    came: list[Received] = field(default_factory=list)
    #: How many were being answered at once, at most.
    most_at_once: int = 0
    _now: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None
    url: str = ""

    async def start(self, port: int = 0) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    def endpoints(self, *others: "EventReceiver") -> tuple[EventEndpoint, ...]:
        """As a service has them in its settings."""
        return event_endpoints(",".join(f"{one.url}#{SECRET}" for one in (self, *others)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S), self._changed:
            await self._changed.wait_for(condition)

    async def takes(self, number: int) -> Sequence[Received]:
        """Wait until so many were taken, and return them."""
        await self.until(lambda: len(self.taken) >= number)
        return list(self.taken)

    def types(self, room: str = "room") -> list[str]:
        return [one.type.removeprefix("agent.") for one in self.taken if one.room == room]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        Webhook(SECRET).verify(body, dict(request.headers))
        received = Received(request.headers["webhook-id"], json.loads(body))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await self._note(self.came, received)
        try:
            behaviour = self.behave(received.room)
            answer = await behaviour() if behaviour else web.Response(status=204)
        finally:
            self._now -= 1
        if answer.status < 300:
            await self._note(self.taken, received)
        return answer

    async def _note(self, into: list[Received], received: Received) -> None:
        async with self._changed:
            into.append(received)
            self._changed.notify_all()


def answer(status: int, **headers: str) -> Behaviour:
    async def behave() -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return behave


async def hang() -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()
