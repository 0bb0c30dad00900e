"""LiveKit with every call to it counted and timed; otherwise as it is."""

from collections.abc import Awaitable
from typing import TypeVar

from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable
from app.livekit.interface import ListedDispatch, LiveKit, Probe, RoomInfo
from app.metrics.counters import Counters
from app.metrics.registry import Metrics
from app.state.presence import Participant

T = TypeVar("T")


class MeteredLiveKit:
    def __init__(self, livekit: LiveKit, counters: Counters, metrics: Metrics) -> None:
        self._livekit = livekit
        self._counters = counters
        self._metrics = metrics

    def now(self) -> int:
        return self._livekit.now()

    async def find_room(self, room_name: str) -> RoomInfo | None:
        return await self._metered("find_room", self._livekit.find_room(room_name))

    async def list_rooms(self) -> tuple[RoomInfo, ...]:
        return await self._metered("list_rooms", self._livekit.list_rooms())

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        return await self._metered("ensure_room", self._livekit.ensure_room(room_name, timeout_s))

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        return await self._metered("list_dispatches", self._livekit.list_dispatches(room_name))

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        return await self._metered("list_participants", self._livekit.list_participants(room_name))

    async def list_people(self, room_name: str) -> frozenset[str]:
        return await self._metered("list_people", self._livekit.list_people(room_name))

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, metadata: str
    ) -> ListedDispatch:
        call = self._livekit.create_dispatch(room_name, agent_name, row_id, metadata)
        return await self._metered("create_dispatch", call)

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        return await self._metered("delete_dispatch", self._livekit.delete_dispatch(room_name, dispatch_id))

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        call = self._livekit.remove_participant(room_name, identity)
        return await self._metered("remove_participant", call)

    async def probe(self, room_name: str, identity: str) -> Probe:
        result = "failed"
        try:
            probe = await self._metered("probe", self._livekit.probe(room_name, identity))
            result = probe.value
            return probe
        finally:
            self._counters.probes[result] += 1

    async def _metered(self, method: str, call: Awaitable[T]) -> T:
        # What neither returns nor raises below.
        result = "cancelled"
        try:
            with self._metrics.livekit_seconds.labels(method).time():
                answer = await call
        except Exception as error:
            result = _result(error)
            raise
        else:
            result = "ok"
            return answer
        finally:
            self._counters.livekit_calls[method, result] += 1


def _result(error: Exception) -> str:
    match error:
        case LiveKitUnreachable():
            return "unreachable"
        case LiveKitTimeout():
            return "timeout"
        case LiveKitUnavailable():
            return "unavailable"
        case LiveKitRefused():
            return "refused"
        case _:
            return "error"
