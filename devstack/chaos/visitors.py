"""Visitors: people who join, request an agent, stay and leave, and notice when their agent is taken away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from livekit import rtc

from devstack.chaos.report import Report
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token

_LONGEST_STAY_S = 7.0
#: An agent met for a shorter time may have been claimed for removal before the person joined.
_TOGETHER_S = 3.0
_RETRY_S = 0.3

Request = Callable[[str, random.Random], Awaitable[bool]]


class Visit:
    """One person in one room, from their join to their leave."""

    def __init__(self, room: str, report: Report) -> None:
        self.room = room
        self.person = Person()
        #: Whether an agent was promised to a person in the room.
        self.granted = False
        self._report = report
        self._met: dict[str, float] = {}
        self._leaving = False
        self.person.room.on("participant_connected", self._meet)
        self.person.room.on("participant_disconnected", self._miss)

    async def join(self, server: LiveKitServer, identity: str) -> None:
        await self.person.join(server.url, member_token(server, self.room, identity))
        for other in self.person.others:
            self._meet(other)

    async def leave(self) -> None:
        self._leaving = True
        await self.person.leave()

    def _meet(self, other: rtc.RemoteParticipant) -> None:
        if other.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self._met.setdefault(other.sid, time.monotonic())

    def _miss(self, other: rtc.RemoteParticipant) -> None:
        met = self._met.pop(other.sid, None)
        if met is None or self._leaving or self._met:
            # Not an agent, or another one stays: of two agents one is removed.
            return
        together_s = time.monotonic() - met
        if together_s > _TOGETHER_S:
            self._report.violate(
                "an agent was taken from a room with a person in it",
                self.room,
                f"{other.identity} from {self.person.identity} after {together_s:.1f} s together",
            )


class Visitors:
    def __init__(
        self, server: LiveKitServer, request: Request, report: Report, rngs: Sequence[random.Random]
    ) -> None:
        self._server = server
        self._request = request
        self._report = report
        self._rngs = rngs
        self._rooms: Sequence[str] = ()
        self._calm = asyncio.Event()
        self._dismissed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight = 0
        self._settled = asyncio.Condition()
        self.present: list[Visit] = []

    def resume(self, rooms: Sequence[str]) -> None:
        """Let people join these rooms from now on."""
        self._rooms = rooms
        self._calm.clear()
        self._dismissed.clear()
        self._tasks = [
            asyncio.create_task(self._keep_visiting(number, rng), name="visitor")
            for number, rng in enumerate(self._rngs)
        ]

    async def calm(self) -> list[Visit]:
        """Stop joins and leaves; return the visits in progress."""
        self._calm.set()
        async with self._settled:
            await self._settled.wait_for(lambda: self._in_flight == 0)
        return list(self.present)

    async def dismiss(self) -> None:
        """Let everybody leave."""
        self._dismissed.set()
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_visiting(self, number: int, rng: random.Random) -> None:
        while not self._calm.is_set():
            visit = Visit(rng.choice(self._rooms), self._report)
            try:
                await self._arrive(visit, number, rng)
                await self._stay(rng.uniform(1, _LONGEST_STAY_S))
            except rtc.ConnectError:
                # For example, the room closed during the join.
                self._report.counts["joins failed"] += 1
                continue
            finally:
                if visit in self.present:
                    self.present.remove(visit)
                await visit.leave()
            self._report.counts["visits"] += 1

    async def _arrive(self, visit: Visit, number: int, rng: random.Random) -> None:
        self._in_flight += 1
        try:
            await visit.join(self._server, f"person-{number}-{rng.getrandbits(32):08x}")
            self.present.append(visit)
            while not (visit.granted or self._calm.is_set()):
                visit.granted = await self._request(visit.room, rng)
                if not visit.granted:
                    await _either(_RETRY_S, self._calm)
        finally:
            self._in_flight -= 1
            async with self._settled:
                self._settled.notify_all()

    async def _stay(self, seconds: float) -> None:
        await _either(seconds, self._calm)
        if self._calm.is_set():
            await self._dismissed.wait()


async def _either(seconds: float, event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
