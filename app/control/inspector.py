"""The inspector: reads a room from LiveKit and assesses the health of its agents."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeAlias

from app.clock import Clock
from app.control.candidates import (
    AgentHealth,
    AssessedCandidate,
    Candidate,
    Inspection,
    RoomLists,
    RoomReading,
    named_in_livekit,
    pair,
    with_avatars,
)
from app.control.held_dispatches import HeldDispatches
from app.control.neighbours import Neighbours
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.errors import LiveKitUnavailable
from app.lifecycle import LIVE_STATES, SECOND_US, Dispatch, Event, Signal, State, Terms
from app.livekit.interface import LiveKit, Probe, RoomInfo
from app.state.changes import Snapshot
from app.state.links import has_lost_its_user
from app.state.presence import Participant, ParticipantKind
from app.state.views import RoomView
from app.tasks import ask_again, begun

#: How the health of an agent in the room is found out.
Test: TypeAlias = Callable[[RoomReading, RoomInfo, Candidate, Participant], Awaitable[AgentHealth]]

#: One probe without an answer may be due to a long garbage collection or a lost packet.
SECOND_PROBE_DELAY_S = 1.0

_GONE: tuple[None, RoomLists] = (None, RoomLists())

#: How often a room is read again because it changed during the reading.
_STALE_TRIES = 3


class RoomInspector:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        clock: Clock,
    ) -> None:
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._clock = clock
        self._neighbours = Neighbours(livekit, clock)
        self._held = HeldDispatches(livekit, store)

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
        raise LiveKitUnavailable("The room changes faster than LiveKit lists it; retry")

    async def _read_room(self, room_name: str) -> RoomReading:
        before = await self._store.room(room_name)
        room, lists = await self._ask(room_name, before)
        outcome = await self._processor.submit_one(
            Snapshot(
                room_name=room_name,
                room=room,
                participants=lists.participants,
                generation=before.generation,
            )
        )
        after = outcome.view
        assert after is not None  # noqa: S101 - the outcome of a Snapshot has it
        agents = {one.identity for one in lists.participants if one.kind is ParticipantKind.AGENT}
        listed = (*lists.dispatches, *lists.held)
        seen = {dispatch.id for dispatch in listed} | agents
        return RoomReading(
            room=room,
            listed=listed,
            held=lists.held,
            participants=tuple(one for one in lists.participants if one.sid not in outcome.departed),
            rows=after.dispatches,
            generation=after.generation,
            outcome=outcome,
            is_stale=(room is not None and not outcome.applied)
            or not named_in_livekit(after.dispatches) <= named_in_livekit(before.dispatches) | seen,
        )

    async def _ask(self, room_name: str, before: RoomView) -> tuple[RoomInfo | None, RoomLists]:
        """The room with its lists. One that the tables have is listed while LiveKit looks for it."""
        if before.sid is None:
            room = await self._livekit.find_room(room_name)
            return await self._listed(room, await self._list(room_name, before.dispatches)) if room else _GONE
        # LiveKit takes 3 s to say that it cannot list a room that it does not have: nobody waits for that.
        async with begun(self._list(room_name, before.dispatches)) as early:
            room = await self._livekit.find_room(room_name)
            if room is None:
                return _GONE
            if room.sid == before.sid:
                return await self._listed(room, await early)
        # It may have been listed before this instance began.
        return await self._listed(room, await self._list(room_name, before.dispatches))

    async def _listed(
        self, room: RoomInfo, lists: RoomLists | LiveKitUnavailable
    ) -> tuple[RoomInfo | None, RoomLists]:
        if isinstance(lists, RoomLists):
            return room, lists
        # A room that closed between the calls causes this too.
        if await self._livekit.find_room(room.name):
            raise lists
        return _GONE

    async def _list(self, room_name: str, rows: Iterable[Dispatch]) -> RoomLists | LiveKitUnavailable:
        """What is in the room, or why LiveKit does not say so."""
        try:
            dispatches, participants, held = await asyncio.gather(
                self._livekit.list_dispatches(room_name),
                self._livekit.list_participants(room_name),
                self._held.of_rows(rows),
            )
            held += await self._held.of_strangers(participants, rows)
        except LiveKitUnavailable as error:
            return error
        return RoomLists(dispatches=dispatches, participants=participants, held=held)

    async def inspect(self, room_name: str, agent_name: str) -> Inspection:
        """Assess every dispatch and agent of that name in the room; raises as `read_room`."""
        return await self._inspect(await self.read_room(room_name), agent_name, self._test)

    async def inspect_for_people(self, room_name: str, agent_name: str) -> Inspection:
        """As `inspect`, but without a probe in an empty room: nobody there can be answered."""
        reading = await self.read_room(room_name)
        return await self._inspect(reading, agent_name, self._test if reading.people else _take_as_good)

    async def _inspect(
        self,
        reading: RoomReading,
        agent_name: str,
        test: Test,
    ) -> Inspection:
        rows = [row for row in reading.rows if row.agent_name == agent_name]
        listed = [dispatch for dispatch in reading.listed if dispatch.agent_name == agent_name]
        agents = [
            p for p in reading.participants if p.kind is ParticipantKind.AGENT and p.agent_name == agent_name
        ]
        candidates = pair(listed, agents, rows)
        if reading.room and any(candidate.is_stray for candidate in candidates):
            # Its dispatch may have been created between reading the dispatches and the participants.
            answer = await self._livekit.list_dispatches(reading.room.name)
            listed = [one for one in (*answer, *reading.held) if one.agent_name == agent_name]
            candidates = pair(listed, agents, rows)
        if mismatched := [candidate for candidate in candidates if candidate.is_mismatched]:
            rows = [await self._correct(row, mismatched) for row in rows]
            candidates = pair(listed, agents, rows)
        candidates = with_avatars(candidates, reading.participants)
        healths = await asyncio.gather(*(self._assess(reading, candidate, test) for candidate in candidates))
        assessed = tuple(
            AssessedCandidate(candidate=candidate, health=health)
            for candidate, health in zip(candidates, healths, strict=True)
        )
        self._neighbours.note(agent_name, assessed)
        now = self._livekit.now()
        return Inspection(
            is_undecided=len(listed) > 1
            and any(one.is_anothers for one in assessed)
            and any(candidate.hides_its_agent(now) for candidate in candidates),
            room=reading.room,
            generation=reading.generation,
            people=reading.people,
            assessed=assessed,
            row=next((row for row in rows if row.state in LIVE_STATES), None),
        )

    async def _correct(self, row: Dispatch, mismatched: Iterable[Candidate]) -> Dispatch:
        """The row with the agent that LiveKit names, so that the other agent's leave does not end the row."""
        own = next((c.agent for c in mismatched if c.agent and c.row and c.row.id == row.id), None)
        if own is None:
            return row
        signal = Signal(event=Event.AGENT_IN, agent_identity=own.identity)
        return (await self._processor.advance(row, signal, row.version)).dispatch or row

    async def _assess(
        self,
        reading: RoomReading,
        candidate: Candidate,
        test: Test,
    ) -> AgentHealth:
        if await self._is_ending(candidate):
            return AgentHealth.ENDING
        if not (candidate.agent and candidate.agent.identity and reading.room):
            return AgentHealth.STARTING if self._may_still_come(candidate) else AgentHealth.ABSENT
        return await test(reading, reading.room, candidate, candidate.agent)

    async def _test(
        self, reading: RoomReading, room: RoomInfo, candidate: Candidate, agent: Participant
    ) -> AgentHealth:
        identity = agent.identity or ""
        try:
            probe = await ask_again(
                partial(self._livekit.probe, room.name, identity),
                SECOND_PROBE_DELAY_S,
                lambda answer: answer is not Probe.SILENT,
            )
        except LiveKitUnavailable:
            # Probing an agent that has just left causes this too.
            present = await self._livekit.list_participants(room.name)
            if any(participant.sid == agent.sid for participant in present):
                raise
            return AgentHealth.ABSENT
        match probe:
            case Probe.OPEN | Probe.STARTING:
                return AgentHealth.RESPONSIVE
            case Probe.CLOSED:
                return AgentHealth.SESSION_CLOSED
            case Probe.SILENT:
                return AgentHealth.UNRESPONSIVE
            case Probe.CONNECTING:
                age_us = self._livekit.now() - (agent.joined_at or 0)
                return (
                    AgentHealth.STARTING
                    if age_us < self._terms(candidate).join_timeout_us
                    else AgentHealth.UNRESPONSIVE
                )
        closes_with_user = self._terms(candidate).closes_with_user
        may_be_closed = closes_with_user and await self._may_be_closed(reading, room, candidate, agent)
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

    async def _may_be_closed(
        self, reading: RoomReading, room: RoomInfo, candidate: Candidate, agent: Participant
    ) -> bool:
        """Whether a default session, which cannot be probed, may have closed because its user left.

        An agent that nobody has met is not closed. Where a visit may have been missed, an agent in an empty
        room may be: to replace it then interrupts no conversation.
        """
        joined_at = self._by_our_clock(agent.joined_at or 0)
        since = (candidate.row.agent_joined_at if candidate.row else None) or joined_at
        company = await self._store.company(room.sid, agent.identity or "", since)
        if has_lost_its_user(company):
            return True
        # Without the margin of `_by_our_clock`: no visit is that short.
        is_watched = company.is_announced and joined_at + SECOND_US > self._processor.listening_since
        return not reading.people and not is_watched

    def _by_our_clock(self, livekits: int) -> int:
        """A time of LiveKit's clock by our clock: never too late, and too early by a second at most."""
        return self._clock.now() - (self._livekit.now() - livekits) - SECOND_US

    def _may_still_come(self, candidate: Candidate) -> bool:
        row, listed = candidate.row, candidate.listed
        if listed is None:
            return False
        if row:
            if row.state not in (State.CREATING, State.STARTING):
                return False
            now = self._clock.now()
            is_held = bool(listed.agent_identities) and self._processor.policy.holds_until(row) > now
            return is_held or row.join_deadline_at is None or row.join_deadline_at > now
        return self._livekit.now() - listed.created_at < self._terms(candidate).join_timeout_us

    def _terms(self, candidate: Candidate) -> Terms:
        policy = self._processor.policy
        if candidate.row:
            return policy.terms_of(candidate.row)
        named = candidate.listed or candidate.agent
        return policy.agents.get((named.agent_name if named else None) or "", policy.default)


async def _take_as_good(
    _reading: RoomReading, _room: RoomInfo, _candidate: Candidate, _agent: Participant
) -> AgentHealth:
    return AgentHealth.UNTESTED
