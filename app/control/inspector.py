"""The inspector: reads a room from LiveKit and assesses the health of its agents."""

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

#: One probe without an answer may be due to a long garbage collection or a lost packet.
SECOND_PROBE_DELAY_S = 1.0

#: How often a room is read again because a row got its dispatch or agent during the reading.
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
        """Read a room from LiveKit, and update its presence in the tables.

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
                # A room that closed between the calls causes this too.
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

    async def inspect(self, room_name: str, agent_name: str) -> Inspection:
        """Assess every dispatch and agent of that name in the room; raises as `read_room`."""
        reading = await self.read_room(room_name)
        rows = [row for row in reading.rows if row.agent_name == agent_name]
        listed = [dispatch for dispatch in reading.listed if dispatch.agent_name == agent_name]
        agents = [
            p for p in reading.participants if p.kind is ParticipantKind.AGENT and p.agent_name == agent_name
        ]
        candidates = pair(listed, agents, rows)
        if reading.room and any(candidate.is_stray for candidate in candidates):
            # Its dispatch may have been created between reading the dispatches and the participants.
            answer = await self._livekit.list_dispatches(reading.room.name)
            listed = [dispatch for dispatch in answer if dispatch.agent_name == agent_name]
            candidates = pair(listed, agents, rows)
        if mismatched := [candidate for candidate in candidates if candidate.is_mismatched]:
            rows = [await self._correct(row, mismatched) for row in rows]
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

    async def _correct(self, row: Dispatch, mismatched: Iterable[Candidate]) -> Dispatch:
        """The row with the agent that LiveKit names, so that the other agent's leave does not end the row."""
        own = next((c.agent for c in mismatched if c.agent and c.row and c.row.id == row.id), None)
        if own is None:
            return row
        signal = Signal(event=Event.AGENT_IN, agent_identity=own.identity)
        return (await self._processor.advance(row, signal, row.version)).dispatch or row

    async def _assess(self, reading: RoomReading, candidate: Candidate) -> AgentHealth:
        if await self._is_ending(candidate):
            return AgentHealth.ENDING
        if not (candidate.agent and candidate.agent.identity and reading.room):
            return AgentHealth.STARTING if self._may_still_come(candidate) else AgentHealth.ABSENT
        try:
            probe = await self._livekit.probe(reading.room.name, candidate.agent.identity)
        except LiveKitUnavailable:
            # Probing an agent that has just left causes this too.
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
        may_be_closed = self._closes_with_user and await self._may_be_closed(reading, reading.room, candidate)
        return AgentHealth.SESSION_CLOSED if may_be_closed else AgentHealth.RESPONSIVE

    async def _is_ending(self, candidate: Candidate) -> bool:
        if candidate.row:
            # If it is no longer listed, its dispatch was deleted, and LiveKit ends its job.
            return candidate.row.state is State.ENDING or candidate.listed is None
        if candidate.is_stray:
            # Nothing in LiveKit will end it, and it cannot get a row.
            return True
        row_id = candidate.listed.row_id if candidate.listed else None
        # A dispatch whose row has ended may be listed for a while. One with an unknown id belongs to another
        # program, or is from before the database was lost.
        known = await self._store.dispatch(row_id) if row_id else None
        return bool(known and known.state is State.ENDED)

    async def _may_be_closed(self, reading: RoomReading, room: RoomInfo, candidate: Candidate) -> bool:
        """Whether a default session, which cannot be probed, may have closed because its user left.

        Without people it may: somebody may have come and gone before any webhook reached the service. To
        replace the agent then interrupts no conversation.
        """
        if not any(participant.kind is ParticipantKind.PERSON for participant in reading.participants):
            return True
        row_since = candidate.row.agent_joined_at if candidate.row else None
        agent_since = self._by_our_clock(candidate.agent.joined_at or 0) if candidate.agent else 0
        return await self._store.closing_leave_since(room.sid, row_since or agent_since)

    def _by_our_clock(self, livekits: int) -> int:
        """A time of LiveKit's clock by our clock: never too late, and too early by a second at most."""
        return self._clock.now() - (self._livekit.now() - livekits) - SECOND_US

    def _may_still_come(self, candidate: Candidate) -> bool:
        # A listed job proves nothing: LiveKit mostly shows it before its agent joins.
        row, listed = candidate.row, candidate.listed
        if listed is None:
            return False
        if row:
            waiting = row.state in (State.CREATING, State.STARTING)
            return waiting and (row.join_deadline_at is None or row.join_deadline_at > self._clock.now())
        return self._livekit.now() - listed.created_at < self._processor.join_timeout_us
