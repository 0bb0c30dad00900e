"""Dispatch latency: a request for an agent on its way, compared with the LiveKit calls that it needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.livekit.client import LiveKitClient
from bench.figures import Figure, Unit
from bench.machine import LOAD_CORES, SERVER_CORES, pinned
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.service import API_KEY, Service

_PART = "dispatch"
_AGENT = "nobody-serves-this"
_ROOMS = 40
_CALLERS = 2
#: LiveKit lists no job for the first 5 s; after that the service gives up a dispatch without a worker.
_FRESH_S = 4.0


def measure(folder: Path) -> list[Figure]:
    """The p99 of both, measured alternately on a real LiveKit."""
    server = LiveKitServer(find_or_build(print), folder)
    service = Service(server, folder, agent_name=_AGENT)
    try:
        with pinned(LOAD_CORES):
            server.start()
        with pinned(SERVER_CORES):
            service.start()
        with pinned(LOAD_CORES):
            ours_s, livekits_s, status_s = asyncio.run(_measure(server, service))
    finally:
        service.stop()
        server.stop()
    beyond_ms = (_p99(ours_s) - _p99(livekits_s)) * 1e3
    return [
        Figure(part=_PART, what="reuse of an agent, p99", value=_p99(ours_s) * 1e3, unit=Unit.MS),
        Figure(
            part=_PART, what="LiveKit's own answers to it, p99", value=_p99(livekits_s) * 1e3, unit=Unit.MS
        ),
        Figure(
            part=_PART, what="beyond LiveKit's own answers, p99", value=beyond_ms, unit=Unit.MS, at_most=10.0
        ),
        Figure(part=_PART, what="status, p99", value=_p99(status_s) * 1e3, unit=Unit.MS),
    ]


async def _measure(server: LiveKitServer, service: Service) -> tuple[list[float], list[float], list[float]]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession() as session, aiohttp.ClientSession(headers=headers) as caller:
        livekit = LiveKitClient(
            session, server.url, Keypair(key=server.api_key, secret=server.api_secret), SteadyClock()
        )
        rooms = [f"dispatch-{number}" for number in range(_ROOMS)]

        async def call(room: str) -> None:
            async with caller.post(
                f"{service.base_url}/api/livekit/dispatch-agent", json={"roomName": room}
            ) as answer:
                answer.raise_for_status()

        async def look(room: str) -> None:
            await livekit.find_room(room)
            await asyncio.gather(livekit.list_dispatches(room), livekit.list_participants(room))

        async def ask(room: str) -> None:
            url = f"{service.base_url}/api/livekit/agent-status"
            async with caller.get(url, params={"roomName": room}) as answer:
                answer.raise_for_status()

        await asyncio.gather(*map(call, rooms))
        until_s = time.monotonic() + _FRESH_S
        ours_s: list[float] = []
        livekits_s: list[float] = []
        while time.monotonic() < until_s:
            ours_s += await _timed(call, rooms)
            livekits_s += await _timed(look, rooms)
        status_s = [one_s for _ in range(10) for one_s in await _timed(ask, rooms)]
        return ours_s, livekits_s, status_s


async def _timed(act: Callable[[str], Awaitable[None]], rooms: list[str]) -> list[float]:
    left, times_s = list(rooms), []

    async def work() -> None:
        while left:
            room = left.pop()
            began_s = time.perf_counter()
            await act(room)
            times_s.append(time.perf_counter() - began_s)

    await asyncio.gather(*(work() for _ in range(_CALLERS)))
    return times_s


def _p99(times_s: list[float]) -> float:
    return sorted(times_s)[max(0, round(len(times_s) * 0.99) - 1)]
