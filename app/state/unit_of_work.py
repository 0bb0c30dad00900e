"""The unit of work: one batch of changes applied to rooms, participants and dispatches in memory.

In one transaction the store loads the rows of the rooms concerned, the unit applies the changes one by one,
and the store saves the rows marked as changed. The same webhooks in any order, and any number of times, have
the same result: participants are keyed by sid, and a leave always wins.
"""

from dataclasses import dataclass, field, replace

from msgspec import structs

from app.lifecycle import LIVE_STATES, Dispatch, Event, Signal, State, due_event
from app.state.changes import Advance, Change, Due, Intent, Outcome, RoomEvent, RoomEventKind, Snapshot
from app.state.dispatch_set import DispatchSet
from app.state.presence import MISSED, Participant, ParticipantKind, Room, TrackedParticipant, TrackedRoom


@dataclass(kw_only=True)
class UnitOfWork:
    """The rows of the rooms in one batch, and the marks of those that changed."""

    dispatch_set: DispatchSet
    rooms: dict[str, TrackedRoom] = field(default_factory=dict)
    participants: dict[str, TrackedParticipant] = field(default_factory=dict)
    #: The number of people in the current instance of each room, by room name.
    people: dict[str, int] = field(default_factory=dict)
    seen_events: set[str] = field(default_factory=set)

    new_events: list[str] = field(default_factory=list)
    changed_rooms: set[str] = field(default_factory=set)
    changed_participants: set[str] = field(default_factory=set)
    _stranger: bool = False

    @property
    def now(self) -> int:
        return self.dispatch_set.now

    def apply(self, change: Change) -> Outcome:
        earlier = len(self.dispatch_set.transitions)
        self.dispatch_set.effects, self._stranger = [], False
        match change:
            case RoomEvent():
                outcome = self._apply_event(change)
            case Snapshot():
                outcome = self._apply_snapshot(change)
            case Intent():
                outcome = self._apply_intent(change)
            case Advance():
                outcome = self._apply_advance(change)
            case Due():
                outcome = self._apply_due(change)
        if len(self.dispatch_set.transitions) == earlier and not self._stranger:
            # The usual case: most webhooks are about rooms without a dispatch.
            return outcome
        return structs.replace(
            outcome,
            transitions=tuple(self.dispatch_set.transitions[earlier:]),
            effects=tuple(self.dispatch_set.effects),
            stranger=self._stranger,
        )

    def _apply_event(self, event: RoomEvent) -> Outcome:
        if event.event_id in self.seen_events:
            return Outcome(applied=False)
        self.seen_events.add(event.event_id)
        self.new_events.append(event.event_id)
        if event.kind is RoomEventKind.FINISHED:
            return Outcome(applied=self._finish_instance(event.room))
        room = self._enter(event.room)
        if room is None or event.participant is None:
            return Outcome(applied=room is not None)
        if event.kind is RoomEventKind.LEFT:
            return Outcome(applied=self._leave(room, event.participant, event.reason))
        return Outcome(applied=self._join(room, event.participant))

    def _apply_intent(self, intent: Intent) -> Outcome:
        room = self._enter(intent.room)
        if room is None:
            return Outcome(applied=False)
        live = self.dispatch_set.live(intent.dispatch.room_name, intent.dispatch.agent_name)
        if live:
            return Outcome(dispatch=live, applied=False)
        people = self.people.get(room.name, 0)
        placed = replace(intent.dispatch, room_sid=room.sid, participant_count=people)
        return Outcome(dispatch=self.dispatch_set.open(placed))

    def _apply_advance(self, advance: Advance) -> Outcome:
        dispatch = self.dispatch_set.dispatches.get(advance.row_id)
        if dispatch is None or dispatch.state is State.ENDED:
            return Outcome(applied=False)
        if advance.version is not None and dispatch.version != advance.version:
            return Outcome(dispatch=dispatch, applied=False)
        return self._signal(dispatch, advance.signal)

    def _apply_due(self, due: Due) -> Outcome:
        dispatch = self.dispatch_set.dispatches.get(due.row_id)
        event = due_event(dispatch, self.now) if dispatch else None
        if dispatch is None or event is None:
            return Outcome(dispatch=dispatch, applied=False)
        if event in due.withhold and dispatch.state in LIVE_STATES:
            return Outcome(dispatch=dispatch, applied=False, withheld=event)
        return self._signal(dispatch, Signal(event=event))

    def _signal(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        applied = self.dispatch_set.signal(dispatch, signal)
        return Outcome(dispatch=self.dispatch_set.dispatches[dispatch.id], applied=applied)

    def _apply_snapshot(self, snapshot: Snapshot) -> Outcome:
        tracked = self.rooms.get(snapshot.room_name)
        if snapshot.room is None:
            unchanged = tracked is not None and tracked.generation <= snapshot.generation
            if tracked is None or tracked.finished_at or not unchanged:
                return Outcome(applied=False)
            self._finish_instance(tracked)
            return Outcome(drift={"room_gone": 1})
        room = self._enter(snapshot.room)
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
            room.sid, agents, identities, self.people.get(room.name, 0)
        )
        drift = {"missed_join": joins, "missed_leave": leaves}
        return Outcome(drift={kind: count for kind, count in drift.items() if count})

    # Rooms

    def _enter(self, room: Room) -> TrackedRoom | None:
        """The current instance of the room; None if `room` is an older or a finished instance."""
        tracked = self.rooms.get(room.name)
        if tracked is None or (tracked.sid != room.sid and room.is_newer_than(tracked)):
            if tracked and not tracked.finished_at:
                self._finish(tracked)
            generation = tracked.generation + 1 if tracked else 1
            tracked = TrackedRoom(
                name=room.name, sid=room.sid, created_at=room.created_at, generation=generation
            )
            self.people[room.name] = 0
            self._save_room(tracked)
        if tracked.sid != room.sid or tracked.finished_at:
            return None
        return tracked

    def _finish_instance(self, room: Room) -> bool:
        tracked = self._enter(room)
        if tracked is None:
            return False
        self._finish(tracked)
        return True

    def _finish(self, room: TrackedRoom) -> None:
        self.people[room.name] = 0
        self._save_room(structs.replace(room, finished_at=self.now, generation=room.generation + 1))
        self.dispatch_set.signal_room(room.sid, Signal(event=Event.ROOM_FINISHED, people=0))

    def _save_room(self, room: TrackedRoom) -> None:
        self.rooms[room.name] = room
        self.changed_rooms.add(room.name)

    # Participants

    def _join(self, room: TrackedRoom, participant: Participant) -> bool:
        if participant.sid in self.participants:
            return False
        self._track(room, participant, left_at=None, reason=None)
        if participant.kind is ParticipantKind.PERSON:
            self.people[room.name] = self.people.get(room.name, 0) + 1
            self.dispatch_set.signal_people(room.sid, self.people[room.name])
        elif participant.kind is ParticipantKind.AGENT:
            self._stranger |= not self.dispatch_set.assign(room.sid, participant)
        return True

    def _leave(self, room: TrackedRoom, participant: Participant, reason: str | None) -> bool:
        known = self.participants.get(participant.sid)
        if known and not known.is_in:
            return False
        self._track(room, participant, left_at=self.now, reason=reason)
        if participant.kind is ParticipantKind.PERSON:
            self.people[room.name] = self.people.get(room.name, 0) - (1 if known else 0)
            self.dispatch_set.signal_people(room.sid, self.people[room.name])
        elif participant.kind is ParticipantKind.AGENT:
            self._leave_agent(room, participant, reason, seen=known is not None)
        return True

    def _leave_agent(self, room: TrackedRoom, agent: Participant, reason: str | None, *, seen: bool) -> None:
        if self._has_reconnected(agent, reason):
            # Its other connection stays. If this one was never seen, the leave shows that the agent joined.
            self.dispatch_set.assign(room.sid, agent)
        elif not self.dispatch_set.agent_left(room.sid, agent, reason) and not seen:
            self.dispatch_set.agent_left_unseen(room.sid, agent, reason)

    def _has_reconnected(self, agent: Participant, reason: str | None) -> bool:
        """Whether only this connection ended, and another one with the agent's identity stays."""
        return reason == "DUPLICATE_IDENTITY" or any(
            other.is_in and other.identity == agent.identity and other.sid != agent.sid
            for other in self.participants.values()
        )

    def _track(
        self, room: TrackedRoom, participant: Participant, *, left_at: int | None, reason: str | None
    ) -> None:
        before = self.rooms[room.name]
        current = structs.replace(before, generation=before.generation + 1)
        self._save_room(current)
        is_agent = participant.kind is ParticipantKind.AGENT
        self.participants[participant.sid] = TrackedParticipant(
            sid=participant.sid,
            kind=participant.kind,
            identity=participant.identity if is_agent else None,
            agent_name=participant.agent_name if is_agent else None,
            joined_at=participant.joined_at,
            room_name=room.name,
            room_sid=room.sid,
            left_at=left_at,
            leave_reason=reason,
            generation=current.generation,
        )
        self.changed_participants.add(participant.sid)

    def _present(self, room: TrackedRoom) -> list[TrackedParticipant]:
        return [p for p in self.participants.values() if p.is_in and p.room_sid == room.sid]
