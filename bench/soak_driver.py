"""The process of a soak that plays LiveKit and its people, and notes how the service answers.

`python -m bench.soak_driver PORT WEBHOOK_URL DISPATCH_URL LOAD`; LOAD is JSON of `Load`. Its own paths:
POST `/soak/begin`, `/soak/crowd`, `/soak/measure?for_s=...` and `/soak/quiet`; GET `/soak/progress`,
`/soak/rooms` and `/soak/results`.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from app.tasks import BackgroundTasks
from bench.contenders import KEYPAIR
from bench.corpus import Signer
from bench.soak_livekit import LiveKitApi
from bench.soak_tenths import Tenths
from bench.soak_world import Load, Room, World
from bench.steady import Connections, is_taken, webhook_request
from devstack.ports import LOOPBACK
from devstack.service import API_KEY

#: A signature is valid for five minutes.
_SIGNS_ANEW_S = 60.0
_CALL_TIMEOUT_S = 30.0
#: While so many calls wait for their answer, no further room begins.
_MOST_CALLS = 32


class Webhooks:
    """Sends each webhook at its due moment; those of one room one after the other, as LiveKit does."""

    def __init__(self, url: str, connections: Connections, answered: Callable[[bytes, float], None]) -> None:
        self._url = url
        self._connections = connections
        self._answered = answered
        self._signer, self._signed_since_s = Signer(KEYPAIR), time.monotonic()
        #: What waits for the answer to the webhook of its room before; the first one is on its way.
        self._of_rooms: dict[str, deque[tuple[float, bytes]]] = {}

    @property
    def under_way(self) -> int:
        return sum(map(len, self._of_rooms.values()))

    def send(self, due_s: float, room: Room, body: str) -> None:
        if time.monotonic() - self._signed_since_s > _SIGNS_ANEW_S:
            self._signer, self._signed_since_s = Signer(KEYPAIR), time.monotonic()
        waiting = self._of_rooms.setdefault(room.sid, deque())
        waiting.append((due_s, webhook_request(self._url, self._signer.sign(body), body)))
        if len(waiting) == 1:
            self._send_next(room.sid)

    def _send_next(self, room_sid: str) -> None:
        def answered(answer: bytes, latency_s: float) -> None:
            self._answered(answer, latency_s)
            waiting = self._of_rooms[room_sid]
            waiting.popleft()
            if waiting:
                self._send_next(room_sid)
            else:
                del self._of_rooms[room_sid]

        self._connections.send(*self._of_rooms[room_sid][0], answered)


@dataclass(kw_only=True)
class Notes:
    """What the driver saw while it measured."""

    webhooks: Tenths
    calls: Tenths


class Driver:
    def __init__(self, load: Load, webhook_url: str, dispatch_url: str) -> None:
        loop = asyncio.get_running_loop()
        self._load = load
        self._webhook_url = webhook_url
        self._dispatch_url = dispatch_url
        self._tasks = BackgroundTasks()
        #: Told by the world, and not sent yet.
        self._told: deque[tuple[Room, str]] = deque()
        self._notes = Notes(webhooks=Tenths(0, 0), calls=Tenths(0, 0))
        #: Answers other than 200, from the start on.
        self._errors: Counter[str] = Counter()
        #: The webhooks that were answered with 200.
        self._taken = 0
        self._calls_under_way = 0
        self._is_crowded = False
        self._is_quiet = False
        self._webhooks: Webhooks | None = None
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
        )
        self.world = World(
            load,
            emit=lambda room, body: self._told.append((room, body)),
            call=self._spawn_call,
            later=loop.call_later,
            now_s=time.time,
        )

    async def begin(self) -> None:
        """Begin rooms, whose people call for agents, until there are enough."""
        self._webhooks = Webhooks(
            self._webhook_url, await Connections.opened(self._webhook_url), self._take_answer
        )
        self.world.begin_plain_rooms()
        self._tasks.spawn(self._send_webhooks(self._webhooks), "webhooks")
        self._tasks.spawn(self._begin_rooms(), "rooms")

    def crowd(self) -> None:
        """From now on further people join and leave, so that every moment has its webhook."""
        self._is_crowded = True

    def measure(self, for_s: float) -> None:
        """Forget what was noted before."""
        now_s = time.time()
        self._notes = Notes(webhooks=Tenths(now_s, for_s), calls=Tenths(now_s, for_s))

    def be_quiet(self) -> None:
        self._is_quiet, self._is_crowded = True, False
        self.world.be_quiet()

    async def close(self) -> None:
        await self._tasks.drain(0)
        await self._session.close()

    def progress(self) -> dict[str, object]:
        return {
            "agents": sum(bool(room.agents) for room in self.world.rooms.values()),
            "rooms": len(self.world.rooms),
            "taken": self._taken,
            "waiting": len(self._told) + (self._webhooks.under_way if self._webhooks else 0),
            "errors": dict(self._errors),
        }

    def rooms(self) -> list[dict[str, object]]:
        return [
            {
                "name": room.name,
                "dispatches": list(room.dispatches),
                "agents": list(room.agents),
                "is_wanted": room.has_agent and bool(room.people),
            }
            for room in self.world.rooms.values()
        ]

    def results(self) -> dict[str, object]:
        return {
            "webhooks_ms": self._notes.webhooks.quantiles(),
            "calls_ms": self._notes.calls.quantiles(),
            "errors": dict(self._errors),
            "deleted_at_s": self.world.deleted_at_s,
        }

    async def _send_webhooks(self, webhooks: Webhooks) -> None:
        loop = asyncio.get_running_loop()
        begins_s, number = loop.time(), 0
        while True:
            due_s = begins_s + number / self._load.webhooks_per_second
            # Also when it is late: the stub has to answer in between.
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            number += 1
            if not self._told and self._is_crowded:
                self.world.move()
            if self._told:
                webhooks.send(due_s, *self._told.popleft())

    async def _begin_rooms(self) -> None:
        while not self._is_quiet:
            if len(self.world.served) < self._load.agents and self._calls_under_way < _MOST_CALLS:
                self.world.begin_room()
            await asyncio.sleep(1 / self._load.begins_per_second)

    def _spawn_call(self, room: Room) -> None:
        self._calls_under_way += 1
        self._tasks.spawn(self._call(room), "call")

    async def _call(self, room: Room) -> None:
        began_at_s, began_s = time.time(), time.monotonic()
        try:
            async with self._session.post(self._dispatch_url, json={"roomName": room.name}) as answer:
                if not answer.ok:
                    self._errors[f"call: {answer.status} {(await answer.json())['code']}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self._errors[f"call: {type(error).__name__}"] += 1
        finally:
            self._calls_under_way -= 1
        self._notes.calls.add(began_at_s, time.monotonic() - began_s)

    def _take_answer(self, answer: bytes, latency_s: float) -> None:
        self._notes.webhooks.add(time.time() - latency_s, latency_s)
        if is_taken(answer):
            self._taken += 1
        else:
            status = answer.partition(b"\r\n")[0].decode("latin-1")
            self._errors[f"webhook: {status or 'no answer'}"] += 1


def _routes(driver: Driver) -> Sequence[web.RouteDef]:
    async def begin(_request: web.Request) -> web.Response:
        await driver.begin()
        return web.Response()

    async def crowd(_request: web.Request) -> web.Response:
        driver.crowd()
        return web.Response()

    async def measure(request: web.Request) -> web.Response:
        driver.measure(float(request.query["for_s"]))
        return web.Response()

    async def quiet(_request: web.Request) -> web.Response:
        driver.be_quiet()
        return web.Response()

    async def progress(_request: web.Request) -> web.Response:
        return web.json_response(driver.progress())

    async def rooms(_request: web.Request) -> web.Response:
        return web.json_response(driver.rooms())

    async def results(_request: web.Request) -> web.Response:
        return web.json_response(driver.results())

    return [
        *(web.post(f"/soak/{act.__name__}", act) for act in (begin, crowd, measure, quiet)),
        *(web.get(f"/soak/{act.__name__}", act) for act in (progress, rooms, results)),
    ]


async def make_app(load: Load, webhook_url: str, dispatch_url: str) -> web.Application:
    driver = Driver(load, webhook_url, dispatch_url)

    async def close(_app: web.Application) -> None:
        await driver.close()

    app = web.Application()
    app.add_routes(_routes(driver))
    app.router.add_post("/twirp/{service}/{method}", LiveKitApi(driver.world).answer)
    app.on_cleanup.append(close)
    return app


def main() -> None:
    port, webhook_url, dispatch_url, load = sys.argv[1:]
    app = make_app(Load(**json.loads(load)), webhook_url, dispatch_url)
    web.run_app(app, host=LOOPBACK, port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
