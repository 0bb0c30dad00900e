"""The unit of work: one batch of changes applied to rooms, participants and dispatches in memory.

In one transaction the store loads the rows of the rooms concerned, the unit applies the changes one by one,
and the store saves the rows marked as changed. The same webhooks in any order, and any number of times, have
the same result: participants are keyed by sid, and a leave always wins.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from msgspec import structs

from app.lifecycle import Event, Signal
from app.state.changes import Advance, Change, Due, Intent, Outcome, RoomEvent, RoomEventKind, Snapshot
from app.state.dispatch_set import DispatchSet
from app.state.leaves import DUPLICATE, Leave, has_reconnected, is_displaced, leave_of
from app.state.presence import (
    MISSED,
    Headcount,
    Participant,
    ParticipantKind,
    Room,
    TrackedParticipant,
    TrackedRoom,
    track,
)


@dataclass(kw_only=True)
class UnitOfWork:
    """The rows of the rooms in one batch, and the marks of those that changed."""

    dispatch_set: DispatchSet
    #: See `links.pseudonyms`.
    pseudonym: Callable[[str], str]
    rooms: dict[str, TrackedRoom] = field(default_factory=dict)
    participants: dict[str, TrackedParticipant] = field(default_factory=dict)
    #: Of the current instance of each room, by room name.
    headcounts: defaultdict[str, Headcount] = field(default_factory=lambda: defaultdict(Headcount))
    seen_events: set[str] = field(default_factory=set)
    #: Those of the batch's intents that are still good.
    claims: set[str] = field(default_factory=set)

    new_events: list[str] = field(default_factory=list)
    changed_rooms: set[str] = field(default_factory=set)
    changed_participants: set[str] = field(default_factory=set)
    used_claims: list[str] = field(default_factory=list)
    _stranger: bool = False
    _disputed: bool = False

    @property
    def now(self) -> int:
        return self.dispatch_set.now

    def apply(self, change: Change) -> Outcome:
        earlier = len(self.dispatch_set.transitions)
        earlier_returns = len(self.dispatch_set.returns)
        self.dispatch_set.effects, self._stranger, self._disputed = [], False, False
        match change:
            case RoomEvent():
                outcome = self._apply_event(change)
            case Snapshot():
                outcome = self._apply_snapshot(change)
                view = self.dispatch_set.view_of(change.room_name, self.rooms.get(change.room_name))
                outcome = structs.replace(outcome, view=view)
            case Intent():
                outcome = self._apply_intent(change)
            case Advance():
                headcount = self.headcounts[change.room_name] if change.room_name in self.rooms else None
                outcome = self.dispatch_set.advance(change, headcount)
            case Due():
                outcome = self.dispatch_set.act(change)
        if len(self.dispatch_set.transitions) == earlier and not (self._stranger or self._disputed):
            return outcome  # most webhooks are about rooms without a dispatch
        return structs.replace(
            outcome,
            transitions=tuple(self.dispatch_set.transitions[earlier:]),
            effects=tuple(self.dispatch_set.effects),
            returns=tuple(self.dispatch_set.returns[earlier_returns:]),
            stranger=self._stranger,
            disputed=self._disputed,
        )

    def _apply_event(self, event: RoomEvent) -> Outcome:
        if event.event_id in self.seen_events:
            return Outcome(applied=False)
        self.seen_events.add(event.event_id)
        self.new_events.append(event.event_id)
        if event.kind is RoomEventKind.FINISHED:
            return Outcome(applied=self._finish_instance(event.room))
        room = self._enter_by_event(event)
        if room is None or event.participant is None:
            return Outcome(applied=room is not None)
        if event.kind is RoomEventKind.LEFT:
            return Outcome(applied=self._leave(room, event.participant, event.reason, event.sent_at))
        return Outcome(applied=self._join_as_announced(room, event.participant))

    def _apply_intent(self, intent: Intent) -> Outcome:
        room = self._enter_as_reported(intent.room, intent.generation)
        if room is None:
            return Outcome(applied=False)
        live = self.dispatch_set.live(intent.dispatch.room_name, intent.dispatch.agent_name)
        if live:
            return Outcome(dispatch=live, applied=False)
        if intent.claim is not None:
            if intent.claim not in self.claims:
                return Outcome(applied=False, has_lost_claim=True)
            self.used_claims.append(intent.claim)
        placed = replace(intent.dispatch, room_sid=room.sid)
        return Outcome(dispatch=self.dispatch_set.open(placed, self.headcounts[room.name]))

    def _apply_snapshot(self, snapshot: Snapshot) -> Outcome:
        tracked = self.rooms.get(snapshot.room_name)
        if snapshot.room is None:
            unchanged = tracked is not None and tracked.generation <= snapshot.generation
            if tracked is None or tracked.finished_at or not unchanged:
                return Outcome(applied=False)
            self._finish(tracked)
            return Outcome(drift={"room_gone": 1})
        room = self._enter_as_reported(snapshot.room, snapshot.generation)
        if room is None:
            return Outcome(applied=False)
        listed = {participant.sid for participant in snapshot.participants}
        joins = sum(self._join(room, participant) for participant in snapshot.participants)
        absent = [
            participant
            for participant in self._present(room)
            if participant.sid not in listed and participant.generation <= snapshot.generation
        ]
        leaves = sum(self._leave(room, participant, MISSED) for participant in absent)
        present = {participant.sid: participant for participant in self._present(room)}
        identities = {participant.identity for participant in present.values()}
        # As listed: the tables do not store when an agent joined, which the assignment needs.
        agents = [p for p in snapshot.participants if p.kind is ParticipantKind.AGENT and p.sid in present]
        self._stranger |= not self.dispatch_set.align(
            room.sid, agents, identities, self.headcounts[room.name]
        )
        drift = {"missed_join": joins, "missed_leave": leaves}
        return Outcome(
            drift={kind: count for kind, count in drift.items() if count},
            departed=frozenset(sid for sid in listed if self.participants[sid].has_departed),
        )

    # Rooms

    def _enter_by_event(self, event: RoomEvent) -> TrackedRoom | None:
        """The current instance of the room; None if the event is about another one.

        An event is only a hint: LiveKit is asked before it ends an instance with people in. It is asked too
        if somebody has joined an instance that ought to be over.
        """
        tracked = self.rooms.get(event.room.name)
        if tracked is None:
            return self._begin(event.room)
        if tracked.sid == event.room.sid:
            self._disputed |= event.kind is RoomEventKind.JOINED and tracked.finished_at is not None
            return None if tracked.finished_at else tracked
        if not event.room.is_newer_than(tracked):
            self._disputed |= event.kind is RoomEventKind.JOINED
            return None
        if self._is_occupied(tracked):
            self._disputed = True
            return None
        return self._begin(event.room)

    def _enter_as_reported(self, room: Room, generation: int) -> TrackedRoom | None:
        """The instance that LiveKit reports, whatever the tables have; None if they changed since then."""
        tracked = self.rooms.get(room.name)
        if tracked and tracked.sid == room.sid and not tracked.finished_at:
            return tracked
        if tracked and tracked.generation > generation:
            return None
        if tracked and tracked.sid == room.sid:
            return self._reopen(tracked)
        return self._begin(room)

    def _begin(self, room: Room) -> TrackedRoom:
        """Track this instance, in the place of the one before."""
        before = self.rooms.get(room.name)
        if before and not before.finished_at:
            self._finish(before)
            before = self.rooms[room.name]
        generation = before.generation + 1 if before else 1
        tracked = TrackedRoom(name=room.name, sid=room.sid, created_at=room.created_at, generation=generation)
        self.headcounts[room.name] = Headcount()
        self._save_room(tracked)
        return tracked

    def _reopen(self, room: TrackedRoom) -> TrackedRoom:
        """Take back the end of an instance that LiveKit still has."""
        reopened = structs.replace(room, finished_at=None, generation=room.generation + 1)
        self.headcounts[room.name] = Headcount()
        for participant in self._present(reopened):
            self.headcounts[room.name] = self.headcounts[room.name].plus(participant, 1)
        self._save_room(reopened)
        return reopened

    def _is_occupied(self, room: TrackedRoom) -> bool:
        """Whether the end of this instance would end an agent with people in."""
        return self.headcounts[room.name].people > 0 and bool(self.dispatch_set.of_room(room.sid))

    def _finish_instance(self, room: Room) -> bool:
        tracked = self.rooms.get(room.name)
        if tracked is None or (tracked.sid != room.sid and room.is_newer_than(tracked)):
            if tracked and not tracked.finished_at and self._is_occupied(tracked):
                self._disputed = True
                return False
            tracked = self._begin(room)
        if tracked.sid != room.sid or tracked.finished_at:
            return False
        if self._is_occupied(tracked):
            self._disputed = True
            return False
        self._finish(tracked)
        return True

    def _finish(self, room: TrackedRoom) -> None:
        self.headcounts[room.name] = Headcount()
        self._save_room(structs.replace(room, finished_at=self.now, generation=room.generation + 1))
        self.dispatch_set.signal_room(room.sid, Signal(event=Event.ROOM_FINISHED, people=0))

    def _save_room(self, room: TrackedRoom) -> None:
        self.rooms[room.name] = room
        self.changed_rooms.add(room.name)

    # Participants

    def _join_as_announced(self, room: TrackedRoom, participant: Participant) -> bool:
        joined = self._join(room, participant)
        tracked = self.participants[participant.sid]
        if tracked.is_in and not tracked.is_announced:
            self.participants[tracked.sid] = structs.replace(tracked, is_announced=True)
            self.changed_participants.add(tracked.sid)
        return joined

    def _join(self, room: TrackedRoom, participant: Participant) -> bool:
        if participant.sid in self.participants:
            return False
        self._track(room, participant, left_at=None, reason=None)
        if participant.kind is ParticipantKind.PERSON:
            self._count(room, participant, 1)
        elif participant.kind is ParticipantKind.AGENT:
            self._stranger |= not self.dispatch_set.assign(room.sid, participant)
        self._displace(room, participant)
        return True

    def _leave(
        self, room: TrackedRoom, participant: Participant, reason: str | None, left_at: int | None = None
    ) -> bool:
        """`left_at`: by LiveKit's clock."""
        known = self.participants.get(participant.sid)
        if known and not known.is_in:
            return False
        self._track(room, participant, left_at=self.now, reason=reason)
        if participant.kind is ParticipantKind.PERSON:
            self._count(room, known or participant, -1 if known else 0)
        elif participant.kind is ParticipantKind.AGENT:
            leave = leave_of(participant, self._present(room, ParticipantKind.PERSON), reason, left_at)
            self._leave_agent(room, participant, leave, seen=known is not None)
        if known is None:
            self._displace(room, participant)
        return True

    def _count(self, room: TrackedRoom, person: Participant, number: int) -> None:
        headcount = self.headcounts[room.name].plus(person, number)
        self.headcounts[room.name] = headcount
        self.dispatch_set.signal_people(room.sid, headcount)

    def _leave_agent(self, room: TrackedRoom, agent: Participant, leave: Leave, *, seen: bool) -> None:
        present = self._present(room)
        if has_reconnected(agent, present):
            # Its other connection stays. If this one was never seen, the leave shows that the agent joined.
            self.dispatch_set.assign(room.sid, agent)
        elif leave.reason == DUPLICATE and not is_displaced(agent, present, self.pseudonym):
            # Who has its identity now is told next; if that is lost, LiveKit knows.
            self._stranger |= self.dispatch_set.assign(room.sid, agent)
        else:
            self._stranger |= not self.dispatch_set.agent_left(room.sid, agent, leave, present, seen=seen)

    def _displace(self, room: TrackedRoom, holder: Participant) -> None:
        """LiveKit has put out the agent that had the identity of `holder`, who is none."""
        if holder.kind is not ParticipantKind.AGENT and self.dispatch_set.of_room(room.sid):
            self._stranger |= not self.dispatch_set.displace(room.sid, holder, self._present(room))

    def _track(
        self, room: TrackedRoom, participant: Participant, *, left_at: int | None, reason: str | None
    ) -> None:
        before = self.rooms[room.name]
        current = structs.replace(before, generation=before.generation + 1)
        self._save_room(current)
        known = self.participants.get(participant.sid)
        tracked = track(participant, known, current, self.pseudonym)
        self.participants[participant.sid] = structs.replace(tracked, left_at=left_at, leave_reason=reason)
        self.changed_participants.add(participant.sid)

    def _present(self, room: TrackedRoom, kind: ParticipantKind | None = None) -> list[TrackedParticipant]:
        present = (one for one in self.participants.values() if one.is_in and one.room_sid == room.sid)
        return [one for one in present if kind in (None, one.kind)]
