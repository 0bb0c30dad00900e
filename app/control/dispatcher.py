"""The dispatcher: answers calls for an agent in a room, and calls for its end."""

import asyncio
import logging
from dataclasses import replace

from app.clock import Clock
from app.control.candidates import AgentHealth, AssessedCandidate, Inspection
from app.control.creation import Creator
from app.control.effects import EffectRunner
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor
from app.control.removal import Remover
from app.control.requests import AgentGrant, AgentRequest
from app.database.store import Store
from app.errors import Busy, LiveKitTimeout, LiveKitUnavailable
from app.lifecycle import Dispatch, Effect, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import RoomInfo
from app.metrics.counters import Counters, SuppressedActions
from app.state.changes import Effects, Intent, Outcome
from app.tasks import drain

logger = logging.getLogger(__name__)

#: A caller gets an answer within this.
_FLIGHT_TIMEOUT_S = 9
_OTHER_POLL_S = 0.05
#: How often a room is inspected again because its dispatch changed during the inspection.
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
        self._counters = counters
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        self._flights: dict[tuple[str, str], asyncio.Task[AgentGrant]] = {}

    async def request(self, wanted: AgentRequest) -> AgentGrant:
        """An agent that answers, or one on its way: the one that is there if it is good, else a new one.

        Raises:
            LiveKitUnavailable: LiveKit cannot be asked; nothing was changed.
            LiveKitTimeout: it did not answer in time; what was begun is settled in the background.
            LiveKitRefused: LiveKit rejected it.
        """
        with self._counters.request() as note:
            granted = await self._join_flight(wanted)
            note("reused" if granted.reused else "created")
        return granted

    async def end(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent now, whoever is in; None when there was none. Raises as `request`."""
        async with self._effects.exclusive(room_name, agent_name):
            return await self._end(await self._inspector.examine(room_name, agent_name))

    async def give_back(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent unless people are in; None when it stays, or there was none. Raises as `request`."""
        async with self._effects.exclusive(room_name, agent_name):
            inspection = await self._inspector.examine(room_name, agent_name)
            return None if inspection.people else await self._end(inspection)

    async def adopt(self, best: AssessedCandidate, inspection: Inspection, wanted: AgentRequest) -> Dispatch:
        """Take over a good agent that we never dispatched."""
        listed, agent = best.candidate.listed, best.candidate.agent
        now = self._clock.now()
        if listed is None or inspection.room is None:
            raise LiveKitUnavailable("LiveKit does not list the agent's dispatch; retry")
        dispatch = replace(
            wanted.intended(inspection.room, now),
            dispatch_id=listed.id,
            dispatched_at=listed.created_at,
            agent_identity=agent.identity if agent else None,
            agent_joined_at=now if agent else None,
        )
        outcome = await self._processor.submit_one(Intent(dispatch=dispatch, room=inspection.room))
        if outcome.dispatch is None:
            raise LiveKitUnavailable("The room was closed during the request; retry")
        return outcome.dispatch

    async def close(self, grace_s: float) -> None:
        await drain(self._flights.values(), grace_s)

    async def _join_flight(self, wanted: AgentRequest) -> AgentGrant:
        key = (wanted.room_name, wanted.agent_name)
        flight = self._flights.get(key)
        if flight:
            # The answer of the flight under way is as fresh as one of our own would be.
            return replace(await asyncio.shield(flight), reused=True)
        flight = asyncio.create_task(self._fly(wanted), name="dispatch request")
        self._flights[key] = flight
        flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # The caller may go away; whoever has joined the flight still wants its outcome.
        return await asyncio.shield(flight)

    async def _fly(self, wanted: AgentRequest) -> AgentGrant:
        try:
            async with asyncio.timeout(_FLIGHT_TIMEOUT_S):
                async with self._effects.exclusive(wanted.room_name, wanted.agent_name):
                    return await self._grant(wanted)
        except TimeoutError as error:
            raise LiveKitTimeout("LiveKit did not answer in time; retry") from error

    async def _grant(self, wanted: AgentRequest) -> AgentGrant:
        for _ in range(_STALE_TRIES):
            inspection = await self._inspector.examine(wanted.room_name, wanted.agent_name)
            best = inspection.best()
            if best and not self._mode.keeps_one:
                self._suppressed.count("reuse")
                best = None
            try:
                if best:
                    return await self._keep(best, inspection, wanted)
                return await self._make(inspection, wanted)
            except _StaleInspection:
                continue
        raise Busy("The room kept changing while the request was processed; retry")

    async def _keep(
        self, best: AssessedCandidate, inspection: Inspection, wanted: AgentRequest
    ) -> AgentGrant:
        """Reuse the best one, and see that it is the only one."""
        row = best.candidate.row
        standing = inspection.row
        if standing and (row is None or row.id != standing.id):
            # Not MISSING, even where LiveKit does not list it: that would bring a successor.
            outcome = await self._advance(standing, Signal(event=Event.DUPLICATE))
            self._effects.spawn(outcome.effects)
        if row is None:
            row = await self.adopt(best, inspection, wanted)
            if row.state is State.CREATING:
                # Another replica makes one at this moment: which of the two is better, its answer says.
                await self._await_lease(row)
                raise _StaleInspection
        elif row.state is State.CREATING and best.candidate.listed:
            # LiveKit's answer was lost; the dispatch was not.
            row = await self._settle(row, best)
        outcome = await self._advance(row, Signal(event=Event.REUSED))
        await self._remove_untracked(inspection, keep=best)
        if outcome.dispatch is None:
            raise LiveKitUnavailable("The room was closed during the request; retry")
        _log("reuse", outcome.dispatch)
        return AgentGrant(dispatch=outcome.dispatch, reused=True)

    async def _settle(self, row: Dispatch, best: AssessedCandidate) -> Dispatch:
        listed = best.candidate.listed
        assert listed is not None  # noqa: S101 - the caller has checked
        signal = Signal(event=Event.DISPATCHED, dispatch_id=listed.id, dispatched_at=listed.created_at)
        outcome = await self._advance(row, signal)
        return outcome.dispatch or row

    async def _make(self, inspection: Inspection, wanted: AgentRequest) -> AgentGrant:
        """Clean up what is no good, and dispatch a new agent."""
        successor = None
        if inspection.row:
            event = _event_of(inspection) if self._mode.keeps_one else Event.MISSING
            outcome = await self._advance(inspection.row, Signal(event=event))
            others, successor = _split_off_successor(outcome, inspection.row)
            await self._run(others, inspection.room)
        await self._remove_untracked(inspection, keep=None)
        if successor:
            return _created(await self._creator.create_new(successor, None))
        ensured = None if inspection.room else await self._creator.ensure_room(wanted.room_name)
        room = inspection.room or ensured
        assert room is not None  # noqa: S101 - one of the two is
        intent = Intent(dispatch=wanted.intended(room, self._clock.now()), room=room)
        outcome = await self._processor.submit_one(intent)
        row = outcome.dispatch
        if row is None:
            raise LiveKitUnavailable("The room was closed during the request; retry")
        if outcome.applied:
            return _created(await self._creator.create_new(row, ensured))
        row = await self._await_lease(row)
        if row.state is State.UNAVAILABLE:
            # A caller's wish is a reason to try at once.
            row = (await self._advance(row, Signal(event=Event.REUSED))).dispatch or row
        if row.state is not State.CREATING:
            # Another replica was faster.
            return AgentGrant(dispatch=row, reused=True)
        return _created(await self._creator.create(row))

    async def _await_lease(self, row: Dispatch) -> Dispatch:
        """The row once the process that makes its dispatch has made it, or with the lease of one that died.

        Two processes without the lease would both find no dispatch in LiveKit, and make one each.
        """
        while row.state is State.CREATING:
            if (row.retry_at or 0) <= self._clock.now():
                return (await self._advance(row, Signal(event=Event.RETRY_DUE))).dispatch or row
            if row.leased_by == self._processor.process_id:
                break
            await asyncio.sleep(_OTHER_POLL_S)
            current = await self._store.dispatch(row.id)
            if current is None or current.state is State.ENDED:
                raise _StaleInspection
            row = current
        return row

    async def _end(self, inspection: Inspection) -> Dispatch | None:
        if inspection.row:
            # A wish needs no evidence: it holds for the row in whatever state it is by now.
            outcome = await self._processor.advance(inspection.row, Signal(event=Event.END_REQUESTED))
            await self._run(outcome.effects, inspection.room)
        await self._remove_untracked(inspection, keep=None)
        return inspection.row

    async def _remove_untracked(self, inspection: Inspection, keep: AssessedCandidate | None) -> None:
        """Remove the dispatches and agents of this name that no row of ours is about."""
        if not self._mode.keeps_one or inspection.room is None:
            return
        for assessed in inspection.assessed:
            if assessed is not keep and assessed.candidate.row is None:
                await self._remover.remove_candidate(inspection.room.name, assessed.candidate)

    async def _run(self, effects: Effects, room: RoomInfo | None) -> None:
        for effect, dispatch in effects:
            await self._effects.run(effect, dispatch, room)

    async def _advance(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        """Apply a signal that rests on an inspection: only to the row as it was then."""
        outcome = await self._processor.advance(dispatch, signal, dispatch.version)
        if not outcome.applied and outcome.dispatch and outcome.dispatch.version != dispatch.version:
            raise _StaleInspection
        return outcome


def _split_off_successor(outcome: Outcome, row: Dispatch) -> tuple[Effects, Dispatch | None]:
    """The effects but for creations, which the caller runs itself, and the row's new successor."""
    others = tuple((effect, subject) for effect, subject in outcome.effects if effect is not Effect.CREATE)
    created = (subject for effect, subject in outcome.effects if effect is Effect.CREATE)
    return others, next((subject for subject in created if subject.id != row.id), None)


def _event_of(inspection: Inspection) -> Event:
    """What the evidence says about our row, none of the candidates being good."""
    row = inspection.row
    assessed = inspection.of_row(row) if row else None
    if assessed is None:
        return Event.MISSING
    if assessed.health in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE):
        return Event.REFUTED
    return Event.JOIN_OVERDUE if row and row.state is State.STARTING else Event.AGENT_LOST


def _created(dispatch: Dispatch) -> AgentGrant:
    _log("dispatch", dispatch)
    return AgentGrant(dispatch=dispatch, reused=False)


def _log(action: str, dispatch: Dispatch) -> None:
    logger.info(
        "An agent was provided",
        extra={
            "action": action,
            "dispatch_id": dispatch.dispatch_id,
            "room": dispatch.room_name,
            "agent": dispatch.agent_name,
            "state": dispatch.state,
        },
    )
