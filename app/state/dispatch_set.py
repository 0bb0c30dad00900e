"""The dispatches of one batch: signals to them, the transitions, and the effects."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from app.lifecycle import (
    LIVE_STATES,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Signal,
    State,
    decide,
    due_event,
    met,
    open_dispatch,
)
from app.lifecycle.conversation import ends_conversation
from app.lifecycle.relief import awaits_relief, outcome_of_relief
from app.lifecycle.returns import Return, return_after, return_during
from app.lifecycle.usage import account
from app.state.changes import Advance, Due, Outcome, Transition
from app.state.leaves import Leave, event_of, is_brief
from app.state.ownership import awaits, future_owner, owner
from app.state.presence import Headcount, Participant, TrackedRoom
from app.state.views import RoomView


@dataclass(kw_only=True)
class DispatchSet:
    """The dispatches of the batch's rooms that have not ended, and the changes to them."""

    policy: Policy
    now: int
    new_id: Callable[[], str]
    #: The process that takes the leases.
    process_id: str
    dispatches: dict[str, Dispatch] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    effects: list[tuple[Effect, Dispatch]] = field(default_factory=list)
    #: The last ended dispatch of each room and agent name of which a new one may be opened.
    former: dict[tuple[str, str], Dispatch] = field(default_factory=dict)
    #: The people who came back.
    returns: list[Return] = field(default_factory=list)
    #: The conversations that are over: by the room's sid and the agent name.
    ended_conversations: set[tuple[str, str]] = field(default_factory=set)
    #: The sids of rooms that are over, with all their conversations.
    finished_rooms: set[str] = field(default_factory=set)

    def live(self, room_name: str, agent_name: str) -> Dispatch | None:
        for dispatch in self.dispatches.values():
            named = (dispatch.room_name, dispatch.agent_name) == (room_name, agent_name)
            if named and dispatch.state in LIVE_STATES:
                return dispatch
        return None

    def view_of(self, room_name: str, room: TrackedRoom | None) -> RoomView:
        """`room`: its last instance; None: none was ever tracked."""
        named = (one for one in self.dispatches.values() if one.room_name == room_name)
        return RoomView.of(room, (one for one in named if one.state is not State.ENDED))

    def of_room(self, room_sid: str) -> list[Dispatch]:
        return [
            dispatch
            for dispatch in self.dispatches.values()
            if dispatch.room_sid == room_sid and dispatch.state is not State.ENDED
        ]

    def open(self, dispatch: Dispatch, headcount: Headcount) -> Dispatch:
        """Add a new dispatch; one that LiveKit already holds is adopted and skips `creating`."""
        dispatch = open_dispatch(met(dispatch, *headcount), self.now, self.policy)
        self._note_return_to(dispatch)
        if not (dispatch.dispatch_id or dispatch.former_agent):
            dispatch = replace(dispatch, former_agent=self._last_agent(dispatch))
        dispatch = self._record(Transition(before=None, after=dispatch, event="intent"))
        if dispatch.dispatch_id:
            self.signal(dispatch, Signal(event=Event.DISPATCHED))
        return self.dispatches[dispatch.id]

    def advance(self, advance: Advance, headcount: Headcount | None) -> Outcome:
        """Apply a signal to its dispatch. `headcount`: of the room; None if it is not tracked."""
        dispatch = self.dispatches.get(advance.row_id)
        if dispatch is None or dispatch.state is State.ENDED:
            return Outcome(applied=False)
        if advance.version is not None and dispatch.version != advance.version:
            return Outcome(dispatch=dispatch, applied=False)
        signal = advance.signal
        if signal.event is Event.OCCUPIED and headcount is not None:
            # LiveKit lists a person who leaves for a moment more; the webhook of the leave is the later news.
            signal = replace(signal, people=headcount.people, phones=headcount.phones)
        return self._outcome(dispatch, signal)

    def act(self, due: Due) -> Outcome:
        """Apply the deadline of a dispatch that has passed, if any has."""
        dispatch = self.dispatches.get(due.row_id)
        event = due_event(dispatch, self.now) if dispatch else None
        if dispatch and event is Event.RETRY_DUE and awaits_relief(dispatch, self.dispatches.values()):
            event = Event.RELIEF_AWAITED
        if dispatch is None or event is None:
            return Outcome(dispatch=dispatch, applied=False)
        if event in due.withhold and dispatch.state in LIVE_STATES:
            return Outcome(dispatch=dispatch, applied=False, withheld=event)
        return self._outcome(dispatch, Signal(event=event, agent_identity=due.agent_identity))

    def _outcome(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        applied = self.signal(dispatch, signal)
        return Outcome(dispatch=self.dispatches[dispatch.id], applied=applied)

    def signal_room(self, room_sid: str, signal: Signal) -> None:
        if signal.event is Event.ROOM_FINISHED:
            self.finished_rooms.add(room_sid)
        for dispatch in self.of_room(room_sid):
            self.signal(dispatch, signal)

    def signal_people(self, room_sid: str, headcount: Headcount) -> None:
        people, phones = headcount
        event = Event.PEOPLE_IN if people else Event.PEOPLE_OUT
        self.signal_room(room_sid, Signal(event=event, people=people, phones=phones))

    def assign(self, room_sid: str, agent: Participant) -> bool:
        """Assign the agent to the dispatch that waits for it; False if it belongs to no dispatch."""
        dispatches = self.of_room(room_sid)
        if owner(agent, dispatches):
            return True
        dispatch = future_owner(agent, dispatches)
        if dispatch:
            self.signal(dispatch, Signal(event=Event.AGENT_IN, agent_identity=agent.identity))
        return dispatch is not None

    def agent_left(
        self, room_sid: str, agent: Participant, leave: Leave, present: Iterable[Participant], *, seen: bool
    ) -> bool:
        """Apply an agent's leave to its dispatch; False if only LiveKit can say what it means.

        `present`: who stays. `seen`: False if its join was lost, or was overtaken by the leave.
        """
        own = owner(agent, self.of_room(room_sid))
        if own and (is_brief(leave, agent, self.policy) or self._may_go_on(own, present)):
            # The dispatch may have another one: of several jobs, or its true one.
            return False
        if own is None and not seen:
            self._assign_unseen(room_sid, agent)
        for dispatch in self._owned(room_sid, agent):
            if awaits_relief(dispatch, self.dispatches.values()):
                # It does not come back, whatever becomes of the relief.
                self.signal(dispatch, Signal(event=Event.RELIEVED, agent_identity=agent.identity))
            else:
                self.signal(dispatch, Signal(event=event_of(leave, dispatch, agent, self.policy)))
        return True

    def displace(self, room_sid: str, holder: Participant, present: Sequence[Participant]) -> bool:
        """End what lost its agent to `holder`, who is none; False if only LiveKit can say whether it did.

        `present`: who is in, as far as is known; an agent that is newer has displaced the holder.
        """
        own = self._owned(room_sid, holder) if holder.identity else []
        if any(one.identity == holder.identity and one.is_newer_than(holder) for one in present):
            return True
        for dispatch in own:
            if self._may_go_on(dispatch, present):
                return False
            self.signal(dispatch, Signal(event=Event.AGENT_LOST))
        return True

    def _owned(self, room_sid: str, agent: Participant) -> list[Dispatch]:
        """The dispatches with an agent of that identity: workers may give all their agents the same one."""
        return [one for one in self.of_room(room_sid) if one.agent_identity == agent.identity]

    def _may_go_on(self, dispatch: Dispatch, present: Iterable[Participant]) -> bool:
        """Whether another agent in the room may be one of the dispatch too; only LiveKit can say."""
        owned = {one.agent_identity for one in self.of_room(dispatch.room_sid)}
        return any(
            agent.agent_name == dispatch.agent_name and agent.identity not in owned for agent in present
        )

    def _assign_unseen(self, room_sid: str, agent: Participant) -> None:
        """Assign an agent that has left already."""
        for dispatch in self.of_room(room_sid):
            if dispatch.dispatched_at is not None and awaits(dispatch, agent):
                self.signal(dispatch, Signal(event=Event.AGENT_IN, agent_identity=agent.identity))
                return

    def align(
        self,
        room_sid: str,
        agents: Sequence[Participant],
        identities: Collection[str | None],
        headcount: Headcount,
    ) -> bool:
        """Align the dispatches of a room with its presence; False if an agent belongs to no dispatch.

        `identities` are those of all agents in the room, `agents` those that may be assigned to a dispatch.
        """
        for dispatch in self.of_room(room_sid):
            is_lost = dispatch.agent_identity not in identities and not self._may_go_on(dispatch, agents)
            if dispatch.state in (State.ACTIVE, State.IDLE) and is_lost:
                self.signal(dispatch, Signal(event=Event.AGENT_LOST))
        assigned_before = {dispatch.agent_identity for dispatch in self.of_room(room_sid)}
        free = [agent for agent in agents if agent.identity not in assigned_before]
        assigned = [self.assign(room_sid, agent) for agent in free]
        if any(dispatch.participant_count != headcount.people for dispatch in self.of_room(room_sid)):
            self.signal_people(room_sid, headcount)
        return all(assigned)

    def signal(self, dispatch: Dispatch, signal: Signal) -> bool:
        """Apply the signal and record the decision; False if the signal was ignored."""
        signal = replace(signal, successor_id=self.new_id())
        decision = decide(dispatch, signal, self.now, self.policy)
        returns = dispatch.state is State.ENDING and decision.dispatch.state in LIVE_STATES
        if returns and self.live(dispatch.room_name, dispatch.agent_name):
            # Another dispatch took its place during the removal: this one cannot become live again.
            replaced = replace(dispatch, end_reason=EndReason.REPLACED)
            decision = decide(replaced, signal, self.now, self.policy)
        if decision.dispatch.version == dispatch.version:
            return False
        self._note_return(dispatch, decision.dispatch)
        decided = self._record(Transition(before=dispatch, after=decision.dispatch, event=signal.event))
        self.effects.extend((effect, decided) for effect in decision.effects)
        self._settle_relief(dispatch, decided, signal.event)
        if decision.successor and not self.live(dispatch.room_name, dispatch.agent_name):
            successor = self._record(Transition(before=None, after=decision.successor, event=signal.event))
            if successor.state is State.CREATING:
                self.effects.append((Effect.CREATE, successor))
        self._note_conversation(dispatch, decided, signal.event)
        return True

    def _settle_relief(self, before: Dispatch, after: Dispatch, event: Event) -> None:
        """If this one was to take over from another, decide about that one, which still answers."""
        relieved = self.dispatches.get(after.succeeds or "")
        outcome = outcome_of_relief(before, after, event)
        if relieved and outcome and relieved.end_reason is EndReason.DRAINED:
            self.signal(relieved, Signal(event=outcome))

    def _note_conversation(self, before: Dispatch, after: Dispatch, event: Event) -> None:
        is_asked_for = event is Event.END_REQUESTED
        has_heir = self.live(after.room_name, after.agent_name) is not None
        if ends_conversation(before, after, event) and (is_asked_for or not has_heir):
            self.ended_conversations.add((after.room_sid, after.agent_name))

    def _note_return(self, before: Dispatch, after: Dispatch) -> None:
        came = return_during(before, after, self.now)
        newest = self._newest(before.room_name, before.agent_name) if came else None
        # Several may be ending at once, and a live one may be beside them: the return is to one of them.
        if came and (came.is_kept or (newest and newest.id == before.id)):
            self.returns.append(came)

    def _note_return_to(self, fresh: Dispatch) -> None:
        """Note the return of somebody whose agent has ended, by a call or with another program's dispatch."""
        if fresh.dispatch_id and not fresh.participant_count:
            return
        former = self._newest(fresh.room_name, fresh.agent_name)
        if former and (came := return_after(former, self.now)):
            self.returns.append(came)

    def _newest(self, room_name: str, agent_name: str) -> Dispatch | None:
        """The live one of these names; else the one that was made last."""
        made_last = max(self._named(room_name, agent_name), key=_made_at, default=None)
        return self.live(room_name, agent_name) or made_last

    def _last_agent(self, fresh: Dispatch) -> str | None:
        """The identity of the last agent before: it may still be in, or connect anew after an outage."""
        ended = [one for one in self._named(fresh.room_name, fresh.agent_name) if one.state is State.ENDED]
        return max(ended, key=_made_at).agent_identity if ended else None

    def _named(self, room_name: str, agent_name: str) -> list[Dispatch]:
        names = (room_name, agent_name)
        tracked = [one for one in self.dispatches.values() if (one.room_name, one.agent_name) == names]
        return [self.former[names], *tracked] if names in self.former else tracked

    def _record(self, transition: Transition) -> Dispatch:
        after, before = transition.after, transition.before
        if before:
            after = account(before, after, self.now)
        if _lease(after) and (before is None or _lease(after) != _lease(before)):
            after = replace(after, leased_by=self.process_id)
        transition = structs.replace(transition, after=after)
        self.dispatches[transition.after.id] = transition.after
        self.transitions.append(transition)
        return transition.after


def _made_at(dispatch: Dispatch) -> int:
    return dispatch.created_at


def _lease(dispatch: Dispatch) -> int | None:
    """The end of the lease of a creating or ending dispatch; None in other states."""
    return dispatch.retry_at if dispatch.state in (State.CREATING, State.ENDING) else None


def final_states(transitions: Iterable[Transition]) -> dict[str, Dispatch]:
    """The dispatches that changed, each in its final state."""
    return {transition.after.id: transition.after for transition in transitions}
