"""Dispatch latency: a call that reuses an agent or makes one, beyond the LiveKit calls that it needs."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.lifecycle import UNTOLD
from app.livekit.client import LiveKitClient
from bench.figures import Figure, Unit
from bench.machine import LOAD_CORES, SERVER_CORES, pinned
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.service import API_KEY, Service

_PART = "dispatch"
_AGENT = "nobody-serves-this"
#: Rooms of one turn of the service or of LiveKit.
_ROOMS = 25
_CALLERS = 2
_ROUNDS = 12
#: LiveKit lists no job for the first 5 s; after that the service gives up a dispatch without a worker.
_FRESH_S = 4.0
_ROOM_TIMEOUT_S = 330
#: What is done for one room, by its name.
_Act = Callable[[str], Awaitable[None]]
_CALL, _STATUS = "/api/livekit/dispatch-agent", "/api/livekit/agent-status"


@dataclass(kw_only=True)
class Comparison:
    """One kind of call: its times, and those of the same calls to LiveKit alone, measured alternately."""

    what: str
    #: The goal for the p99 of the one without that of the other.
    at_most_ms: float
    ours_s: list[float] = field(default_factory=list)
    livekits_s: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        beyond_ms = _p99_ms(self.ours_s) - _p99_ms(self.livekits_s)
        typical_ms = (statistics.median(self.ours_s) - statistics.median(self.livekits_s)) * 1e3
        return [
            self._figure("p99", _p99_ms(self.ours_s)),
            self._figure("LiveKit's own answers to it, p99", _p99_ms(self.livekits_s)),
            self._figure("beyond LiveKit's own answers, p99", beyond_ms, self.at_most_ms),
            self._figure("beyond LiveKit's own answers, p50", typical_ms),
        ]

    def _figure(self, of_it: str, value: float, at_most: float | None = None) -> Figure:
        return Figure(part=_PART, what=f"{self.what}: {of_it}", value=value, unit=Unit.MS, at_most=at_most)


def measure(folder: Path) -> list[Figure]:
    """The times of a reuse and of creations, on a real LiveKit that sends its webhooks."""
    port = free_port()
    server = LiveKitServer(
        find_or_build(print), folder, webhook_urls=[f"http://{LOOPBACK}:{port}/api/livekit/webhook"]
    )
    service = Service(server, folder, agent_name=_AGENT, port=port)
    try:
        with pinned(LOAD_CORES):
            server.start()
        with pinned(SERVER_CORES):
            service.start()
        with pinned(LOAD_CORES):
            return asyncio.run(_measure(server, service))
    finally:
        service.stop()
        server.stop()


async def _measure(server: LiveKitServer, service: Service) -> list[Figure]:
    async with _Parties.connect(server, service) as parties:
        compared = [
            await _compare_reuses(parties),
            await _compare_creations(
                parties, "new agent, known room", parties.open_room, parties.look_and_make
            ),
            await _compare_creations(parties, "new agent, new room", _leave_missing, parties.miss_and_make),
        ]
        status_s = [one_s for _ in range(10) for one_s in await _timed(parties.ask, _rooms("status"))]
    figures = [figure for one in compared for figure in one.figures()]
    return [*figures, Figure(part=_PART, what="status, p99", value=_p99_ms(status_s), unit=Unit.MS)]


@dataclass(frozen=True, kw_only=True)
class _Parties:
    """The service, as a backend calls it, and LiveKit, as the service calls it."""

    service: aiohttp.ClientSession
    livekit: LiveKitClient

    @classmethod
    @asynccontextmanager
    async def connect(cls, server: LiveKitServer, service: Service) -> AsyncIterator["_Parties"]:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with (
            aiohttp.ClientSession() as session,
            aiohttp.ClientSession(service.base_url, headers=headers) as caller,
        ):
            keypair = Keypair(key=server.api_key, secret=server.api_secret)
            livekit = LiveKitClient(session, server.url, keypair, SteadyClock())
            yield cls(service=caller, livekit=livekit)

    async def call(self, room: str) -> None:
        async with self.service.post(_CALL, json={"roomName": room}) as answer:
            answer.raise_for_status()

    async def end(self, room: str) -> None:
        async with self.service.delete(_CALL, params={"roomName": room}) as answer:
            answer.raise_for_status()

    async def ask(self, room: str) -> None:
        async with self.service.get(_STATUS, params={"roomName": room}) as answer:
            answer.raise_for_status()

    async def open_room(self, room: str) -> None:
        await self.livekit.ensure_room(room, _ROOM_TIMEOUT_S)

    async def look(self, room: str) -> None:
        await asyncio.gather(
            self.livekit.find_room(room),
            self.livekit.list_dispatches(room),
            self.livekit.list_participants(room),
        )

    async def make(self, room: str) -> None:
        await self.open_room(room)
        await self.livekit.create_dispatch(room, _AGENT, room, UNTOLD)

    async def look_and_make(self, room: str) -> None:
        await self.look(room)
        await self.make(room)

    async def miss_and_make(self, room: str) -> None:
        await self.livekit.find_room(room)
        await self.make(room)


async def _compare_reuses(parties: _Parties) -> Comparison:
    compared, rooms = Comparison(what="reuse", at_most_ms=10.0), _rooms("reuse")
    await _timed(parties.call, rooms)
    until_s = time.monotonic() + _FRESH_S
    while time.monotonic() < until_s:
        compared.ours_s += await _timed(parties.call, rooms)
        compared.livekits_s += await _timed(parties.look, rooms)
    await _timed(parties.end, rooms)
    return compared


async def _compare_creations(parties: _Parties, what: str, prepare: _Act, alone: _Act) -> Comparison:
    """`prepare` is done to each room before; `alone` is what a creation asks LiveKit."""
    compared = Comparison(what=what, at_most_ms=15.0)
    for number in range(_ROUNDS):
        ours, livekits = (_rooms(f"{what} {number} {whose}") for whose in ("service", "livekit"))
        await _timed(prepare, ours + livekits)
        compared.ours_s += await _timed(parties.call, ours)
        compared.livekits_s += await _timed(alone, livekits)
        # Before the service notices that no worker comes.
        await _timed(parties.end, ours)
    return compared


async def _leave_missing(_room: str) -> None:
    """The preparation of a room that is to be new."""


def _rooms(of_what: str) -> list[str]:
    return [f"{of_what} {number}" for number in range(_ROOMS)]


async def _timed(act: _Act, rooms: list[str]) -> list[float]:
    left, times_s = list(rooms), []

    async def work() -> None:
        while left:
            room = left.pop()
            began_s = time.perf_counter()
            await act(room)
            times_s.append(time.perf_counter() - began_s)

    await asyncio.gather(*(work() for _ in range(_CALLERS)))
    return times_s


def _p99_ms(times_s: list[float]) -> float:
    return sorted(times_s)[max(0, round(len(times_s) * 0.99) - 1)] * 1e3
