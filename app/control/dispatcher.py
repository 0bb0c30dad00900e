"""The dispatcher: provides an agent for a room on request, and ends it on request."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from app.clock import Clock
from app.control.adoption import Adopter, row_of
from app.control.call_queue import CallQueue
from app.control.candidates import AssessedCandidate, Inspection, event_of_loss
from app.control.capacity import Capacity
from app.control.creation import Creator, dispatched
from app.control.effects import EffectRunner
from app.control.flights import Flights
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor, new_row_id
from app.control.removal import Remover
from app.control.requests import AgentGrant, AgentRequest, log_served
from app.database.store import Store
from app.errors import Busy, LiveKitTimeout
from app.lifecycle import Dispatch, Effect, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import ListedDispatch
from app.metrics.counters import Counters, SuppressedActions
from app.state.changes import Effects, Intent, Outcome

#: The time limit of a request.
_FLIGHT_TIMEOUT_S = 9
_LEASE_POLL_S = 0.05
#: How often a room is inspected because its dispatch changed during the inspection.
_STALE_TRIES = 5


class _StaleInspection(Exception):
    """The row changed while its room was inspected."""


class Dispatcher:
    def __init__(
        self,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        effects: EffectRunner,
        creator: Creator,
        remover: Remover,
        adopter: Adopter,
        capacity: Capacity,
        queue: CallQueue,
        counters: Counters,
        clock: Clock,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
    ) -> None:
        self._store = store
        self._processor = processor
        self._inspector = inspector
        self._effects = effects
        self._creator = creator
        self._remover = remover
        self._adopter = adopter
        self._capacity = capacity
        self._queue = queue
        self._counters = counters
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        self._flights = Flights(self._run_flight)

    async def request(self, request: AgentRequest) -> AgentGrant:
        """Reuse the room's agent if it answers or is starting, else dispatch a new one.

        Raises:
            LiveKitUnavailable: LiveKit cannot be asked; nothing was changed.
            LiveKitTimeout: it did not answer in time; what was begun is settled in the background.
            LiveKitRefused: LiveKit rejected the call.
            AtCapacity: the policy of the agent allows no other; nothing was changed.
        """
        # A caller may repeat its request, which is another dispatch then.
        request = replace(request, id=new_row_id())
        with self._counters.request() as note:
            grant = await self._queue.serve(request, self._flights.join)
            note(grant.result)
        return request.judge(grant)

    async def end(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent now, even with people in; None if there was none. Raises as `request`."""
        async with self._effects.exclusive(room_name, agent_name):
            ended = await self._end(await self._inspector.inspect(room_name, agent_name))
            # Also what outlived an agent that has ended before, such as after a longest session.
            await self._store.memories.forget_room(room_name, agent_name)
            return ended

    async def end_if_empty(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent unless people are in; None if it stays, or there was none. Raises as `request`.

        A hold stays: there is no agent to give back.
        """
        async with self._effects.exclusive(room_name, agent_name):
            inspection = await self._inspector.inspect(room_name, agent_name)
            keeps = inspection.people or inspection.is_on_hold
            return None if keeps else await self._end(inspection)

    async def close(self, grace_s: float) -> None:
        await self._flights.close(grace_s)

    async def _run_flight(self, request: AgentRequest) -> AgentGrant:
        try:
            async with (
                self._capacity.releasing(request),
                asyncio.timeout(_FLIGHT_TIMEOUT_S),
                self._effects.exclusive(request.room_name, request.agent_name),
            ):
                return await self._grant(request)
        except TimeoutError as error:
            raise LiveKitTimeout("LiveKit did not answer in time; retry") from error

    async def _grant(self, request: AgentRequest) -> AgentGrant:
        for _ in range(_STALE_TRIES):
            inspection = await self._inspector.inspect(request.room_name, request.agent_name)
            best = (inspection.own() if inspection.is_undecided else None) or inspection.best()
            if best and not self._mode.keeps_one:
                self._suppressed.count("reuse")
                best = None
            try:
                if inspection.row and inspection.is_on_hold:
                    return await self._serve_on_hold(inspection.row, inspection, request)
                if best is None:
                    return await self._dispatch_new(inspection, request, event_of_loss)
                if not request.takes(best.candidate.briefing):
                    return await self._dispatch_new(inspection, request, _superseded)
                return await self._reuse(best, inspection, request)
            except _StaleInspection:
                continue
        raise Busy("The room kept changing while the request was processed; retry")

    async def _serve_on_hold(
        self, held: Dispatch, inspection: Inspection, request: AgentRequest
    ) -> AgentGrant:
        """Bring the agent back if the request says so, and keep all others away."""
        await self._remove_untracked(inspection, keep=None)
        if not request.resumes:
            log_served("on_hold", held)
            return AgentGrant(dispatch=held, reused=False)
        resumed = await self._advance(held, request.signal(Event.RESUMED, held))
        return _created(await self._creator.create(row_of(resumed)))

    async def _reuse(
        self, best: AssessedCandidate, inspection: Inspection, request: AgentRequest
    ) -> AgentGrant:
        """Reuse the best agent, and remove all others."""
        row = best.candidate.row
        live = inspection.row
        if live and (row is None or row.id != live.id):
            # Not MISSING, even if LiveKit does not list it: that would create a successor.
            outcome = await self._advance(live, Signal(event=Event.DUPLICATE))
            self._effects.spawn(outcome.effects)
        if row is None:
            row = await self._adopter.adopt(best, inspection, request)
            if row.state in (State.CREATING, State.ON_HOLD):
                # Another replica is creating one, or has put it on hold; inspect the room once that is done.
                await self._await_lease(row)
                raise _StaleInspection
        elif row.state is State.CREATING and best.candidate.listed:
            row = await self._finish(row, best.candidate.listed)
        reused = await self._note_reuse(row, inspection, request)
        await self._remove_untracked(inspection, keep=best)
        log_served("reuse", reused)
        return AgentGrant(dispatch=reused, reused=True)

    async def _finish(self, row: Dispatch, listed: ListedDispatch) -> Dispatch:
        """Finish a creation: LiveKit's answer was lost; the dispatch was not."""
        if row.holding_room is None:
            return (await self._advance(row, dispatched(listed))).dispatch or row
        # Its warm agent may not have been told yet, or be about to come.
        row = await self._await_lease(row)
        return await self._creator.create(row) if row.state is State.CREATING else row

    async def _note_reuse(self, row: Dispatch, inspection: Inspection, request: AgentRequest) -> Dispatch:
        """Record the reuse, unless only who is in the room may restart the TTL, and nobody is."""
        if request.extends_ttl or inspection.people:
            return row_of(await self._advance(row, Signal(event=Event.REUSED)))
        current = await self._store.dispatch(row.id)
        if current is None or current.version != row.version:
            raise _StaleInspection
        return current

    async def _dispatch_new(
        self,
        inspection: Inspection,
        request: AgentRequest,
        event_of: Callable[[Dispatch, Inspection], Event],
    ) -> AgentGrant:
        """Remove what cannot be reused, by the event of its row, and dispatch a new agent."""
        successor = None
        # Before the row of an agent that is gone ends, and its place with it.
        claim = await self._capacity.claim(request)
        if inspection.row:
            event = event_of(inspection.row, inspection) if self._mode.keeps_one else Event.MISSING
            signal = request.signal(event, inspection.row, inspection.expected_agent())
            outcome = await self._advance(inspection.row, signal)
            others, successor = _split_off_successor(outcome, inspection.row)
            await self._effects.run_now(others, inspection.room)
        await self._remove_untracked(inspection, keep=None)
        if successor:
            return _created(await self._creator.create_new(successor, None))
        ensured = None if inspection.room else await self._creator.ensure_room(request.room_name)
        room = inspection.room or ensured
        assert room is not None  # noqa: S101 - one of the two is set
        intended = request.intended(room, self._clock.now())
        of_row = inspection.row.agent_identity if inspection.row else None
        intended = replace(
            intended,
            id=request.id,
            former_agent=inspection.expected_agent() or of_row,
            requested_by=request.requested_by,
        )
        outcome = await self._processor.submit_one(
            Intent(dispatch=intended, room=room, generation=inspection.generation, claim=claim)
        )
        if outcome.has_lost_claim:
            raise _StaleInspection
        row = row_of(outcome)
        if outcome.applied:
            return _created(await self._creator.create_new(row, ensured))
        row = await self._await_lease(row)
        if row.state is State.UNAVAILABLE:
            # A request is a reason to retry at once.
            row = (await self._advance(row, request.signal(Event.REUSED, row))).dispatch or row
        if row.state is State.ON_HOLD:
            raise _StaleInspection
        if row.state is not State.CREATING:
            # Another replica was faster.
            return AgentGrant(dispatch=row, reused=True)
        return _created(await self._creator.create(row))

    async def _await_lease(self, row: Dispatch) -> Dispatch:
        """Wait until the process with the lease has created the dispatch; take the lease when it expires.

        Without the lease, two processes would both find no dispatch in LiveKit and create one each.
        """
        while row.state is State.CREATING:
            if (row.retry_at or 0) <= self._clock.now():
                return (await self._advance(row, Signal(event=Event.RETRY_DUE))).dispatch or row
            if row.leased_by == self._processor.process_id:
                break
            await asyncio.sleep(_LEASE_POLL_S)
            current = await self._store.dispatch(row.id)
            if current is None or current.state is State.ENDED:
                raise _StaleInspection
            row = current
        return row

    async def _end(self, inspection: Inspection) -> Dispatch | None:
        if inspection.row:
            # At any version: the request holds even if the row has changed since the inspection.
            outcome = await self._processor.advance(inspection.row, Signal(event=Event.END_REQUESTED))
            await self._effects.run_now(outcome.effects, inspection.room)
        await self._remove_untracked(inspection, keep=None)
        return inspection.row

    async def _remove_untracked(self, inspection: Inspection, keep: AssessedCandidate | None) -> None:
        """Remove the dispatches and agents of this name that have no row."""
        if not self._mode.keeps_one or inspection.room is None or (keep and inspection.is_undecided):
            return
        for assessed in inspection.assessed:
            if assessed is not keep and assessed.candidate.row is None:
                await self._remover.remove_candidate(inspection.room.name, assessed.candidate)

    async def _advance(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        """Apply the conclusion of an inspection, unless the row has changed or ended since then."""
        outcome = await self._processor.advance(dispatch, signal, dispatch.version)
        found = outcome.dispatch
        if not outcome.applied and (found is None or found.version != dispatch.version):
            raise _StaleInspection
        return outcome


def _split_off_successor(outcome: Outcome, row: Dispatch) -> tuple[Effects, Dispatch | None]:
    """The effects without creations, which the caller runs itself, and the row's new successor."""
    others = tuple((effect, subject) for effect, subject in outcome.effects if effect is not Effect.CREATE)
    created = (subject for effect, subject in outcome.effects if effect is Effect.CREATE)
    return others, next((subject for subject in created if subject.id != row.id), None)


def _superseded(_row: Dispatch, _inspection: Inspection) -> Event:
    """The event for a live row whose agent was told something else."""
    return Event.SUPERSEDED


def _created(dispatch: Dispatch) -> AgentGrant:
    log_served("dispatch", dispatch)
    return AgentGrant(dispatch=dispatch, reused=False)
