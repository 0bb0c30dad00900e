"""Callers that request and end agents at any replica while replicas are being killed."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus

import aiohttp
from livekit import api

from devstack.chaos.report import Report
from devstack.service import API_KEY

#: Answers that are allowed while replicas die: done, slow down, and "not reachable, retry".
_EXPECTED = frozenset({200, 429, 503, 504})
_TIMEOUT_S = 14.0
#: Promise 5's limit for an answer, plus time for a busy machine.
_ANSWER_BOUND_S = 11.0
_POST, _DELETE = "POST", "DELETE"
_PATH = "/api/livekit/dispatch-agent"
#: In an answer, without a look at the rest of it.
_WARM = '"source":"warm"'


class Load:
    def __init__(
        self,
        base_urls: Callable[[], Sequence[str]],
        livekit: api.LiveKitAPI,
        report: Report,
        rooms: Sequence[str],
        rngs: Sequence[random.Random],
    ) -> None:
        self._base_urls = base_urls
        self._livekit = livekit
        self._report = report
        self._rooms = rooms
        self._rngs = rngs
        #: Rooms with people: nobody ends an agent there.
        self.visited: Collection[str] = ()
        #: Set when a request has just been sent: the moment to kill during a request.
        self.asked = asyncio.Event()
        self._calm = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {API_KEY}"},
            # A killed service leaves dead connections behind.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def resume(self) -> None:
        self._calm.clear()
        self._tasks = [asyncio.create_task(self._keep_calling(rng), name="caller") for rng in self._rngs]

    async def calm(self) -> None:
        """Begin no more calls, and wait for those in flight."""
        self._calm.set()
        await asyncio.gather(*self._tasks)

    async def request_agent(self, room: str, rng: random.Random) -> bool:
        """Whether an agent was granted."""
        return await self._call(_POST, room, rng) == HTTPStatus.OK

    async def _keep_calling(self, rng: random.Random) -> None:
        while not self._calm.is_set():
            room = rng.choice(self._rooms)
            draw = rng.random()
            if room in self.visited or draw < 0.75:  # noqa: PLR2004 - three in four request an agent
                await self._call(_POST, room, rng)
            elif draw < 0.97:  # noqa: PLR2004 - most of the others end one
                await self._call(_DELETE, room, rng)
            else:
                await self._close_room(room)
            await self._pause(rng.expovariate(4))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._calm.wait(), seconds)
        except TimeoutError:
            return

    async def _call(self, method: str, room: str, rng: random.Random) -> int:
        """The status; 0 when nobody answered."""
        assert self._session is not None, "open it first"  # noqa: S101 - a bug in the caller
        url = rng.choice(self._base_urls()) + _PATH
        self.asked.set()
        began = time.monotonic()
        if method == _POST:
            send = self._session.post(url, json={"roomName": room})
        else:
            send = self._session.delete(url, params={"roomName": room})
        try:
            async with send as answer:
                text = await answer.text()
                status = answer.status
        except TimeoutError:
            self._report.violate("no answer in time", room, f"{method} at {url}: {_TIMEOUT_S:g} s")
            return 0
        except aiohttp.ClientError:
            self._report.answers["cut off"] += 1
            return 0
        took_s = time.monotonic() - began
        self._report.took("answer", took_s)
        self._report.answers[str(status)] += 1
        if _WARM in text:
            self._report.counts["warm agents that came"] += 1
        if status not in _EXPECTED:
            self._report.violate("unexpected answer", room, f"{method} at {url}: {status} {text[:200]}")
        if took_s > _ANSWER_BOUND_S:
            self._report.violate("late answer", room, f"{method} at {url}: {status} after {took_s:.1f} s")
        return status

    async def _close_room(self, room: str) -> None:
        """A backend closes a room, and everything in it ends."""
        try:
            await self._livekit.room.delete_room(api.DeleteRoomRequest(room=room))
        except api.TwirpError:
            # There is no such room now.
            return
        self._report.counts["rooms closed"] += 1
