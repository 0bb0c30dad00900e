"""What LiveKit knows about the agents of a room, and what it proves about each of them."""

import asyncio
from collections.abc import Iterable

from app.clock import Clock
from app.control.candidates import (
    AgentHealth,
    AssessedCandidate,
    Candidate,
    Inspection,
    RoomReading,
    named_in_livekit,
    pair,
)
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.errors import LiveKitUnavailable
from app.lifecycle import LIVE_STATES, SECOND_US, Dispatch, Event, Signal, State
from app.livekit.interface import ListedDispatch, LiveKit, Probe, RoomInfo
from app.state.changes import Snapshot
from app.state.presence import Participant, ParticipantKind

#: A single question without an answer may be a long garbage collection, or a lost packet.
SECOND_LOOK_S = 1.0

#: How often a room is read again because its dispatch was made, or its agent came, meanwhile.
_STALE_TRIES = 3


class RoomInspector:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        clock: Clock,
        *,
        closes_with_user: bool,
    ) -> None:
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._clock = clock
        self._closes_with_user = closes_with_user

    async def read_room(self, room_name: str) -> RoomReading:
        """Ask LiveKit about a room, and bring its presence in the tables up to date.

        Raises:
            LiveKitUnavailable: nothing is known, and nothing was changed.
        """
        reading = await self._read_room(room_name)
        for _ in range(_STALE_TRIES):
            if not reading.is_stale:
                return reading
            reading = await self._read_room(room_name)
        raise LiveKitUnavailable("Agents join faster than LiveKit lists them; retry")

    async def _read_room(self, room_name: str) -> RoomReading:
        before = await self._store.room(room_name)
        room = await self._livekit.find_room(room_name)
        listed: tuple[ListedDispatch, ...] = ()
        participants: tuple[Participant, ...] = ()
        if room:
            try:
                listed, participants = await asyncio.gather(
                    self._livekit.list_dispatches(room_name), self._livekit.list_participants(room_name)
                )
            except LiveKitUnavailable:
                # A room that closed between the questions looks like this; one that is there does not.
                if await self._livekit.find_room(room_name):
                    raise
                room = None
        outcome = await self._processor.submit_one(
            Snapshot(room_name=room_name, room=room, participants=participants, generation=before.generation)
        )
        rows = (await self._store.room(room_name)).dispatches
        seen = {dispatch.id for dispatch in listed} | {participant.identity for participant in participants}
        return RoomReading(
            room=room,
            listed=listed,
            participants=participants,
            rows=rows,
            outcome=outcome,
            is_stale=not named_in_livekit(rows) <= named_in_livekit(before.dispatches) | seen,
        )

    async def examine(self, room_name: str, agent_name: str) -> Inspection:
        """Judge every dispatch and agent of that name in the room; raises as `read_room`."""
        return await self.judge(await self.read_room(room_name), agent_name)

    async def judge(self, reading: RoomReading, agent_name: str) -> Inspection:
        rows = [row for row in reading.rows if row.agent_name == agent_name]
        listed = [dispatch for dispatch in reading.listed if dispatch.agent_name == agent_name]
        agents = [
            p for p in reading.participants if p.kind is ParticipantKind.AGENT and p.agent_name == agent_name
        ]
        candidates = pair(listed, agents, rows)
        if reading.room and any(candidate.is_stray for candidate in candidates):
            # Its dispatch may have been made after the list was read and before the agent was seen.
            answer = await self._livekit.list_dispatches(reading.room.name)
            listed = [dispatch for dispatch in answer if dispatch.agent_name == agent_name]
            candidates = pair(listed, agents, rows)
        if confused := [candidate for candidate in candidates if candidate.is_confused]:
            rows = [await self._correct(row, confused) for row in rows]
            candidates = pair(listed, agents, rows)
        healths = await asyncio.gather(*(self._assess(reading, candidate) for candidate in candidates))
        return Inspection(
            room=reading.room,
            people=sum(p.kind is ParticipantKind.PERSON for p in reading.participants),
            assessed=tuple(
                AssessedCandidate(candidate=candidate, health=health)
                for candidate, health in zip(candidates, healths, strict=True)
            ),
            row=next((row for row in rows if row.state in LIVE_STATES), None),
        )

    async def _correct(self, row: Dispatch, confused: Iterable[Candidate]) -> Dispatch:
        """The row with the agent that LiveKit names, before the other one's leave is taken for its end."""
        own = next((c.agent for c in confused if c.agent and c.row and c.row.id == row.id), None)
        if own is None:
            return row
        signal = Signal(event=Event.AGENT_IN, agent_identity=own.identity)
        return (await self._processor.advance(row, signal, row.version)).dispatch or row

    async def _assess(self, reading: RoomReading, candidate: Candidate) -> AgentHealth:
        if await self._is_doomed(candidate):
            return AgentHealth.ENDING
        if not (candidate.agent and candidate.agent.identity and reading.room):
            return AgentHealth.STARTING if self._may_still_come(candidate) else AgentHealth.ABSENT
        try:
            probe = await self._livekit.probe(reading.room.name, candidate.agent.identity)
        except LiveKitUnavailable:
            # Asking one who has just left looks like this.
            present = await self._livekit.list_participants(reading.room.name)
            if any(participant.sid == candidate.agent.sid for participant in present):
                raise
            return AgentHealth.ABSENT
        match probe:
            case Probe.OPEN:
                return AgentHealth.RESPONSIVE
            case Probe.CLOSED:
                return AgentHealth.SESSION_CLOSED
            case Probe.SILENT:
                return AgentHealth.UNRESPONSIVE
            case Probe.CONNECTING:
                age_us = self._livekit.now() - (candidate.agent.joined_at or 0)
                return (
                    AgentHealth.STARTING
                    if age_us < self._processor.join_timeout_us
                    else AgentHealth.UNRESPONSIVE
                )
        deaf = self._closes_with_user and await self._may_be_closed(reading, reading.room, candidate)
        return AgentHealth.SESSION_CLOSED if deaf else AgentHealth.RESPONSIVE

    async def _is_doomed(self, candidate: Candidate) -> bool:
        if candidate.row:
            # Not listed any more: somebody has deleted its dispatch, and LiveKit ends its job.
            return candidate.row.state is State.ENDING or candidate.listed is None
        if candidate.is_stray:
            # Nothing in LiveKit will ever end it, and no row can be about it.
            return True
        row_id = candidate.listed.row_id if candidate.listed else None
        # One that we made and ended may be listed for a while; one that we know nothing of is another's,
        # or our own from before the database was lost.
        known = await self._store.dispatch(row_id) if row_id else None
        return bool(known and known.state is State.ENDED)

    async def _may_be_closed(self, reading: RoomReading, room: RoomInfo, candidate: Candidate) -> bool:
        """Whether a default session, which cannot be asked, may have closed because its user left.

        With nobody in, it may: somebody can have come and gone without a webhook having reached us yet. To
        replace it then costs no conversation, since there is none without a person.
        """
        if not any(participant.kind is ParticipantKind.PERSON for participant in reading.participants):
            return True
        row_since = candidate.row.agent_joined_at if candidate.row else None
        agent_since = self._by_our_clock(candidate.agent.joined_at or 0) if candidate.agent else 0
        return await self._store.closing_leave_since(room.sid, row_since or agent_since)

    def _by_our_clock(self, livekits: int) -> int:
        """A time of LiveKit's by our clock: not later than it was, and earlier by a second at most."""
        return self._clock.now() - (self._livekit.now() - livekits) - SECOND_US

    def _may_still_come(self, candidate: Candidate) -> bool:
        # A listed job says nothing: LiveKit mostly shows it before its agent is in.
        row, listed = candidate.row, candidate.listed
        if listed is None:
            return False
        if row:
            waiting = row.state in (State.CREATING, State.STARTING)
            return waiting and (row.join_deadline_at is None or row.join_deadline_at > self._clock.now())
        return self._livekit.now() - listed.created_at < self._processor.join_timeout_us
