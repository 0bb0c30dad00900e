"""`app.livekit.LiveKit` over the fake server: it records the calls, and fails as the test has scripted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from app.errors import LiveKitUnavailable
from app.lifecycle import Briefing
from app.livekit.interface import ClaimAnswer, Hearing, ListedDispatch, Probe, RoomInfo
from app.state.presence import Participant
from fakes.clock import SECOND_US, FakeClock
from fakes.faults import Faults
from fakes.rooms import FakeAgent, FakeDispatch, FakeParticipant, FakeRoom
from fakes.server import FakeServer

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    method: str
    arguments: tuple[str | int, ...]


class FakeLiveKit:
    def __init__(self, server: FakeServer, clock: FakeClock) -> None:
        self.server = server
        self.faults = Faults()
        self.calls: list[Call] = []
        self._clock = clock

    def count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)

    def now(self) -> int:
        # As the Date of an answer has it.
        return self.server.now() // SECOND_US * SECOND_US

    async def find_room(self, room_name: str) -> RoomInfo | None:
        def act() -> RoomInfo | None:
            room = self.server.rooms.get(room_name)
            return _room_info(room) if room else None

        return await self._call(act, "find_room", room_name)

    async def list_rooms(self) -> tuple[RoomInfo, ...]:
        return await self._call(lambda: tuple(map(_room_info, self.server.rooms.values())), "list_rooms")

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        def act() -> RoomInfo:
            return _room_info(self.server.open_room(room_name, timeout_s, timeout_s))

        return await self._call(act, "ensure_room", room_name, timeout_s)

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        def act() -> tuple[ListedDispatch, ...]:
            return tuple(self._listed(one) for one in self._existing(room_name).dispatches.values())

        return await self._call(act, "list_dispatches", room_name)

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        def act() -> tuple[Participant, ...]:
            room = self.server.rooms.get(room_name)
            return tuple(map(_participant, (room.ghosts | room.participants).values())) if room else ()

        return await self._call(act, "list_participants", room_name)

    async def list_people(self, room_name: str) -> frozenset[str]:
        def act() -> frozenset[str]:
            room = self.server.rooms.get(room_name)
            return frozenset(one.identity for one in room.people) if room else frozenset()

        return await self._call(act, "list_people", room_name)

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, briefing: Briefing
    ) -> ListedDispatch:
        def act() -> ListedDispatch:
            return self._listed(self.server.create_dispatch(room_name, agent_name, row_id, briefing))

        return await self._call(act, "create_dispatch", room_name, agent_name, row_id, briefing.metadata)

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        def act() -> bool:
            return self.server.delete_dispatch(self._existing(room_name), dispatch_id)

        return await self._call(act, "delete_dispatch", room_name, dispatch_id)

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        def act() -> bool:
            room = self.server.rooms.get(room_name)
            if room and identity in room.ghosts.keys() - room.participants.keys():
                raise LiveKitUnavailable("no response from servers")
            return self.server.remove_participant(room_name, identity)

        return await self._call(act, "remove_participant", room_name, identity)

    async def can_probe(self) -> bool:
        return await self._call(lambda: self.server.has_probe, "can_probe")

    async def probe(self, room_name: str, identity: str) -> Probe:
        def act() -> Probe:
            if not self.server.has_probe:
                return Probe.UNSUPPORTED
            agent = self._present(room_name, identity)
            if not isinstance(agent, FakeAgent):
                # Every client answers that it does not know the method.
                return Probe.ALIVE
            if not agent.connected:
                return Probe.CONNECTING
            if not agent.reacts:
                return Probe.SILENT
            if not agent.worker.helper:
                return Probe.ALIVE
            if agent.waits:
                return Probe.WAITING if agent.has_started else Probe.ALIVE
            if not agent.session_open:
                return Probe.CLOSED
            return Probe.OPEN if agent.has_started else Probe.STARTING

        return await self._call(act, "probe", room_name, identity)

    def _present(self, room_name: str, identity: str) -> FakeParticipant:
        room = self.server.rooms.get(room_name)
        participant = room.participants.get(identity) if room else None
        if participant is None:
            raise LiveKitUnavailable("LiveKit answered 503 unavailable")
        return participant

    async def warn(self, room_name: str, identity: str, warning: str) -> Hearing:
        def act() -> Hearing:
            if not self.server.has_probe:
                return Hearing.UNSUPPORTED
            agent = self._present(room_name, identity)
            if not isinstance(agent, FakeAgent):
                return Hearing.UNKNOWN
            if not (agent.connected and agent.reacts):
                return Hearing.SILENT
            if not agent.worker.helper:
                return Hearing.UNKNOWN
            agent.warnings.append(warning)
            return Hearing.HEARD

        return await self._call(act, "warn", room_name, identity, warning)

    async def claim(self, room_name: str, identity: str, claim: str) -> ClaimAnswer:
        def act() -> ClaimAnswer:
            if not self.server.has_probe:
                return ClaimAnswer.UNSUPPORTED
            agent = self._present(room_name, identity)
            if not isinstance(agent, FakeAgent):
                return ClaimAnswer.UNKNOWN
            if not (agent.connected and agent.reacts):
                return ClaimAnswer.SILENT
            if not (agent.is_held and agent.has_started):
                return ClaimAnswer.UNKNOWN
            comes = self.server.claim(self._existing(room_name), agent, claim)
            return ClaimAnswer.CLAIMED if comes else ClaimAnswer.REFUSED

        return await self._call(act, "claim", room_name, identity, claim)

    async def announce(self, room_name: str, identity: str) -> bool:
        def act() -> bool:
            room = self.server.rooms.get(room_name)
            agent = room.participants.get(identity) if room else None
            if agent:
                agent.attributes["agent-lifecycle.warm"] = "claimed"
            return agent is not None

        return await self._call(act, "announce", room_name, identity)

    async def delete_room(self, room_name: str) -> bool:
        def act() -> bool:
            if room_name not in self.server.rooms:
                return False
            self.server.close_room(room_name)
            return True

        return await self._call(act, "delete_room", room_name)

    async def _call(self, act: Callable[[], T], method: str, *arguments: str | int) -> T:
        self.calls.append(Call(method, arguments))
        fault = self.faults.next(method)
        await fault.before()
        answer = act()
        await fault.after()
        return answer

    def _existing(self, room_name: str) -> FakeRoom:
        room = self.server.rooms.get(room_name)
        if room is None:
            raise LiveKitUnavailable("LiveKit answered 503 unavailable")
        return room

    def _listed(self, dispatch: FakeDispatch) -> ListedDispatch:
        shown = self._clock.now() >= dispatch.job_shown_at
        return ListedDispatch(
            id=dispatch.id,
            agent_name=dispatch.agent_name,
            created_at=dispatch.created_at,
            briefing=dispatch.briefing,
            row_id=dispatch.row_id,
            agent_identities=dispatch.jobs if shown else (),
        )


def _room_info(room: FakeRoom) -> RoomInfo:
    return RoomInfo(
        name=room.name,
        sid=room.sid,
        created_at=room.created_at,
        departure_timeout_s=room.departure_timeout_s,
        participant_count=len(room.people),
    )


def _participant(participant: FakeParticipant) -> Participant:
    agent = participant if isinstance(participant, FakeAgent) else None
    return Participant(
        sid=participant.sid,
        kind=participant.kind,
        identity=participant.identity,
        is_phone=participant.is_phone,
        agent_name=agent.agent_name if agent else None,
        joined_at=participant.joined_at,
        on_behalf_of=participant.attributes.get("lk.publish_on_behalf"),
        is_preparing=agent is not None and agent.attributes.get("lk.agent.state") == "initializing",
        has_session=agent is not None and agent.has_started and agent.worker.has_sessions,
        leaving=agent.attributes.get("agent-lifecycle.leaving") if agent else None,
        remembers=agent is not None and agent.attributes.get("agent-lifecycle.memory") == "on",
        holding_room=agent.attributes.get("agent-lifecycle.holding_room") if agent else None,
    )
