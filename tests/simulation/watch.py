"""The fake LiveKit under observation: what the service does to it is judged at the moment it does it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.lifecycle import UNTOLD, Briefing
from app.lifecycle.warm import is_holding_room
from app.state.presence import ParticipantKind
from fakes.clock import SECOND_US
from fakes.rooms import FakeAgent, FakeDispatch, FakeParticipant, FakeRoom, FakeWorker
from fakes.server import FakeServer


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The service is about to take a dispatch, or an agent, out of a room."""

    room: FakeRoom
    agent_name: str
    dispatch: FakeDispatch | None
    #: None: it is not in, whether it has left or is still to come.
    agent: FakeAgent | None


class WatchedServer(FakeServer):
    judge: Callable[[Removal], None] | None = None
    journal: Callable[[str], None]

    def watch(
        self,
        judge: Callable[[Removal], None],
        judge_creation: Callable[[str, str], None],
        judge_claim: Callable[[str, str, str], None],
        on_room_closed: Callable[[str], None],
    ) -> None:
        self.judge = judge
        self._judge_creation = judge_creation
        self._judge_claim = judge_claim
        self._on_room_closed = on_room_closed
        #: By the identity of its agent's job, which LiveKit forgets with the dispatch.
        self.dispatch_of: dict[str, FakeDispatch] = {}
        self.deleted: set[str] = set()
        #: Who closed the session of a plain agent by leaving: agent's identity, person's sid.
        self.closed_by: dict[str, str] = {}
        #: When an agent's process was last known not to react.
        self.unwell_at: dict[str, int] = {}
        self.last_person_at: dict[str, int] = {}
        #: Grows with everything that takes an agent from where it was.
        self.disturbances = 0

    def by_our_clock(self, livekits: int) -> int:
        return livekits - self.ahead_us

    # What the service does

    def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str | None = None, briefing: Briefing = UNTOLD
    ) -> FakeDispatch:
        dispatch = super().create_dispatch(room_name, agent_name, row_id, briefing)
        self.journal(f"  create_dispatch {room_name} {agent_name} row={row_id}: {dispatch.id} {dispatch.job}")
        if row_id:
            self._judge_creation(room_name, agent_name)
        if dispatch.job:
            self.dispatch_of[dispatch.job] = dispatch
        return dispatch

    def delete_dispatch(self, room: FakeRoom, dispatch_id: str) -> bool:
        dispatch = room.dispatches.get(dispatch_id)
        self.journal(f"  delete_dispatch {room.name} {dispatch_id}")
        if dispatch:
            agent = room.participants.get(dispatch.job or "")
            self._judge(room, dispatch.agent_name, dispatch, agent)
            self.deleted.add(dispatch_id)
            self.disturbances += 1
        return super().delete_dispatch(room, dispatch_id)

    def remove_participant(self, room_name: str, identity: str) -> bool:
        room = self.rooms.get(room_name)
        self.journal(f"  remove_participant {room_name} {identity}")
        participant = room.participants.get(identity) if room else None
        if room and participant:
            assert isinstance(participant, FakeAgent), "the service has taken a person out of a room"
            dispatch = self.dispatch_of.get(identity)
            if dispatch is None or dispatch.id not in self.deleted:
                self._judge(room, participant.agent_name, dispatch, participant)
        return super().remove_participant(room_name, identity)

    def _judge(
        self, room: FakeRoom, agent_name: str, dispatch: FakeDispatch | None, agent: FakeParticipant | None
    ) -> None:
        if self.judge:
            agent = agent if isinstance(agent, FakeAgent) else None
            self.judge(Removal(room=room, agent_name=agent_name, dispatch=dispatch, agent=agent))

    def claim(self, holding_room: FakeRoom, agent: FakeAgent, claim: str) -> bool:
        told = json.loads(claim)
        self.journal(f"  claim {agent.identity} in {holding_room.name} for {told['room']}")
        was_claimed = agent.claim is not None
        comes = super().claim(holding_room, agent, claim)
        if comes and not was_claimed:
            self._judge_creation(told["room"], agent.agent_name)
            self._judge_claim(holding_room.name, told["room"], told["claim"])
            # In the room of a person it is as new as its claim.
            of_job = self.dispatch_of[agent.identity]
            self.dispatch_of[agent.identity] = replace(of_job, created_at=self.now())
        return comes

    def close_room(self, name: str) -> None:
        self.journal(f"  delete_room {name}")
        assert is_holding_room(name), f"the service has closed a room of people: {name}"
        held = self.rooms[name]
        for agent in held.agents:
            room = self.elsewhere.get((held.sid, agent.identity))
            came = room.participants.get(agent.identity) if room else None
            if room and came:
                dispatch = self.dispatch_of[agent.identity]
                self._judge(room, agent.agent_name, dispatch, came)
                self.deleted.add(dispatch.id)
        super().close_room(name)

    # What happens by itself

    def delete_behind_our_back(self, room: FakeRoom, dispatch_id: str) -> None:
        self.deleted.add(dispatch_id)
        self.disturbances += 1
        super().delete_dispatch(room, dispatch_id)

    def freeze(self, worker: FakeWorker) -> None:
        super().freeze(worker)
        self.disturbances += 1

    def kill(self, worker: FakeWorker) -> None:
        super().kill(worker)
        self.disturbances += 1

    def note_unwell(self, worker: FakeWorker) -> None:
        for _, agent in self.agents_of(worker):
            self.unwell_at[agent.identity] = self._clock.now()

    def was_unwell_lately(self, agent: FakeAgent, within_s: float) -> bool:
        at = self.unwell_at.get(agent.identity)
        return at is not None and self._clock.now() - at <= within_s * SECOND_US

    def _take_out(self, room: FakeRoom, participant: FakeParticipant, reason: str) -> None:
        is_open = [agent for agent in room.agents if agent.session_open]
        super()._take_out(room, participant, reason)
        self.disturbances += 1
        if participant.kind is ParticipantKind.PERSON:
            self.last_person_at[room.sid] = self._clock.now()
        for agent in is_open:
            if not agent.session_open:
                self.closed_by[agent.identity] = participant.sid

    def _close(self, room: FakeRoom, reason: str) -> None:
        super()._close(room, reason)
        self._on_room_closed(room.name)
