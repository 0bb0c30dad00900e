"""A stub LiveKit that answers at once, or after a delay, and counts calls."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.lifecycle import Briefing
from app.livekit.interface import ClaimAnswer, Hearing, ListedDispatch, Probe, RoomInfo
from app.state.presence import Participant, ParticipantKind
from bench.seeds import Seed


class StubLiveKit:
    """`app.livekit.LiveKit` over seeded rooms, each with a dispatch, its agent, and nobody else."""

    def __init__(self, rooms: dict[str, Seed], *, answers_after_s: float = 0.0) -> None:
        self._rooms = rooms
        self._answers_after_s = answers_after_s
        self._under_way = 0
        self.most_under_way = 0
        #: When each room's dispatch was deleted, by the event loop's clock.
        self.deleted_at_s: dict[str, float] = {}
        self.all_deleted = asyncio.Event()

    def now(self) -> int:
        return time.time_ns() // 1_000

    async def find_room(self, room_name: str) -> RoomInfo | None:
        async with self._call():
            seed = self._rooms.get(room_name)
            return seed.room() if seed else None

    async def list_rooms(self) -> tuple[RoomInfo, ...]:
        async with self._call():
            return tuple(seed.room() for seed in self._rooms.values())

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        raise NotImplementedError

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        async with self._call():
            seed = self._rooms[room_name]
            return () if room_name in self.deleted_at_s else (seed.listed(),)

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        async with self._call():
            seed = self._rooms[room_name]
            return () if room_name in self.deleted_at_s else (seed.agent(),)

    async def list_people(self, room_name: str) -> frozenset[str]:
        participants = await self.list_participants(room_name)
        return frozenset(p.sid for p in participants if p.kind is ParticipantKind.PERSON)

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, briefing: Briefing
    ) -> ListedDispatch:
        raise NotImplementedError

    async def can_probe(self) -> bool:
        return True

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        async with self._call():
            self.deleted_at_s[room_name] = asyncio.get_running_loop().time()
            if len(self.deleted_at_s) == len(self._rooms):
                self.all_deleted.set()
            return True

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        async with self._call():
            return False

    async def probe(self, room_name: str, identity: str) -> Probe:
        async with self._call():
            return Probe.OPEN

    async def warn(self, room_name: str, identity: str, warning: str) -> Hearing:
        raise NotImplementedError

    async def claim(self, room_name: str, identity: str, claim: str) -> ClaimAnswer:
        raise NotImplementedError

    async def announce(self, room_name: str, identity: str) -> bool:
        raise NotImplementedError

    async def delete_room(self, room_name: str) -> bool:
        raise NotImplementedError

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            await asyncio.sleep(self._answers_after_s)
            yield
        finally:
            self._under_way -= 1
