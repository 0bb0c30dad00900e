"""What callers can ask for: an agent in a room, its end, how it is, and what there is."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.clock import Clock
from app.control.candidates import AgentHealth, AssessedCandidate, Inspection
from app.control.effects import EffectRunner
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor, new_row_id
from app.control.tasks import drain
from app.database.store import Store
from app.errors import Busy, LiveKitTimeout, LiveKitUnavailable, NotFound
from app.lifecycle import Dispatch, Effect, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import LiveKit, RoomInfo
from app.metrics.counters import Counters, SuppressedActions
from app.state.changes import Advance, Intent, Outcome
from app.state.views import HistoryLine

logger = logging.getLogger(__name__)

#: A caller hears within this what became of the request.
_FLIGHT_TIMEOUT_S = 9
_OTHER_POLL_S = 0.05
#: How often the evidence is gathered again because the room changed meanwhile.
_MOVED_TRIES = 5


class _StaleInspection(Exception):
    """The row changed while the evidence about it was gathered."""


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    room_name: str
    agent_name: str
    timezone: str | None = None
    timezone_offset_min: int | None = None


@dataclass(frozen=True, kw_only=True)
class AgentGrant:
    dispatch: Dispatch
    #: Whether the agent was there, or on its way, before this call.
    reused: bool


class Dispatcher:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        effects: EffectRunner,
        counters: Counters,
        clock: Clock,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
        room_timeout_s: int,
    ) -> None:
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._inspector = inspector
        self._effects = effects
        self._counters = counters
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        self._room_timeout_s = room_timeout_s
        self._flights: dict[tuple[str, str], asyncio.Task[AgentGrant]] = {}

    async def request(self, wanted: AgentRequest) -> AgentGrant:
        """An agent that answers, or one on its way: the one that is there if it is good, else a new one.

        Raises:
            LiveKitUnavailable: LiveKit cannot be asked; nothing was changed.
            LiveKitTimeout: it did not answer in time; what was begun is settled in the background.
            LiveKitRefused: LiveKit does not want to.
        """
        with self._counters.request() as note:
            granted = await self._join_flight(wanted)
            note("reused" if granted.reused else "created")
        return granted

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

    async def end(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent now, whoever is in; None when there was none. Raises as `request`."""
        async with self._effects.exclusive(room_name, agent_name):
            return await self._end(await self._inspector.examine(room_name, agent_name))

    async def give_back(self, room_name: str, agent_name: str) -> Dispatch | None:
        """End the agent unless people are in; None when it stays, or there was none. Raises as `request`."""
        async with self._effects.exclusive(room_name, agent_name):
            inspection = await self._inspector.examine(room_name, agent_name)
            return None if inspection.people else await self._end(inspection)

    async def _end(self, inspection: Inspection) -> Dispatch | None:
        if inspection.row:
            # A wish needs no evidence: it holds for the row in whatever state it is by now.
            wish = Signal(event=Event.END_REQUESTED)
            outcome = await self._processor.submit_one(
                Advance(room_name=inspection.row.room_name, row_id=inspection.row.id, signal=wish)
            )
            await self._perform(outcome.effects)
        await self._remove_untracked(inspection, keep=None)
        return inspection.row

    async def status(self, room_name: str, agent_name: str) -> Dispatch | None:
        """The live dispatch, or the one that is being ended; None without either. Asks the database only."""
        rows = (await self._store.room(room_name)).dispatches
        named = [row for row in rows if row.agent_name == agent_name]
        live = [row for row in named if row.state is not State.ENDING]
        return next(iter(live or named), None)

    async def find(
        self,
        states: Iterable[State],
        after: tuple[int, str] | None,
        limit: int,
        *,
        room_name: str | None = None,
        agent_name: str | None = None,
    ) -> list[Dispatch]:
        """Newest first, from behind `after` on; the database only is asked."""
        return await self._store.list_dispatches(
            states, after, limit, room_name=room_name, agent_name=agent_name
        )

    async def history(self, dispatch_id: str) -> tuple[Dispatch, list[HistoryLine]]:
        """Raises: NotFound: no such dispatch, or it ended longer ago than history is kept."""
        dispatch = await self._store.find_dispatch(dispatch_id)
        if dispatch is None:
            raise NotFound("there is no such dispatch")
        return dispatch, await self._store.history(dispatch.id)

    async def close(self, grace_s: float) -> None:
        await drain(self._flights.values(), grace_s)

    async def _fly(self, wanted: AgentRequest) -> AgentGrant:
        try:
            async with asyncio.timeout(_FLIGHT_TIMEOUT_S):
                async with self._effects.exclusive(wanted.room_name, wanted.agent_name):
                    return await self._grant(wanted)
        except TimeoutError as error:
            raise LiveKitTimeout("LiveKit was too slow; ask again") from error

    async def _grant(self, wanted: AgentRequest) -> AgentGrant:
        for _ in range(_MOVED_TRIES):
            inspection = await self._inspector.examine(wanted.room_name, wanted.agent_name)
            best = inspection.best()
            if best and not self._mode.keeps_one:
                self._suppressed.note("reuse", new_row_id())
                best = None
            try:
                if best:
                    return await self._keep(best, inspection, wanted)
                return await self._make(inspection, wanted)
            except _StaleInspection:
                continue
        raise Busy("people come and go too fast to say; ask again")

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
            raise LiveKitUnavailable("the room was closed meanwhile; ask again")
        _log("reuse", outcome.dispatch)
        return AgentGrant(dispatch=outcome.dispatch, reused=True)

    async def adopt(self, best: AssessedCandidate, inspection: Inspection, wanted: AgentRequest) -> Dispatch:
        """Take over a good agent that we never dispatched."""
        listed, agent = best.candidate.listed, best.candidate.agent
        now = self._clock.now()
        if listed is None or inspection.room is None:
            raise LiveKitUnavailable("the agent's dispatch is not listed; ask again")
        dispatch = replace(
            self._intended(wanted, inspection.room, now),
            dispatch_id=listed.id,
            dispatched_at=listed.created_at,
            agent_identity=agent.identity if agent else None,
            agent_joined_at=now if agent else None,
        )
        outcome = await self._processor.submit_one(Intent(dispatch=dispatch, room=inspection.room))
        if outcome.dispatch is None:
            raise LiveKitUnavailable("the room was closed meanwhile; ask again")
        return outcome.dispatch

    async def _settle(self, row: Dispatch, best: AssessedCandidate) -> Dispatch:
        listed = best.candidate.listed
        assert listed is not None  # noqa: S101 - the caller has looked
        signal = Signal(event=Event.DISPATCHED, dispatch_id=listed.id, dispatched_at=listed.created_at)
        outcome = await self._advance(row, signal)
        return outcome.dispatch or row

    async def _make(self, inspection: Inspection, wanted: AgentRequest) -> AgentGrant:
        """Clean up what is no good, and dispatch a new agent."""
        if inspection.row:
            event = _event_of(inspection) if self._mode.keeps_one else Event.MISSING
            outcome = await self._advance(inspection.row, Signal(event=event))
            await self._perform(_without_create(outcome))
        await self._remove_untracked(inspection, keep=None)
        room = inspection.room or await self._livekit.ensure_room(wanted.room_name, self._room_timeout_s)
        intent = Intent(dispatch=self._intended(wanted, room, self._clock.now()), room=room)
        outcome = await self._processor.submit_one(intent)
        row = outcome.dispatch
        if row is None:
            raise LiveKitUnavailable("the room was closed meanwhile; ask again")
        if not outcome.applied:
            row = await self._await_lease(row)
        if row.state is State.UNAVAILABLE:
            # A caller's wish is a reason to try at once.
            row = (await self._advance(row, Signal(event=Event.REUSED))).dispatch or row
        if row.state is not State.CREATING:
            # Another replica was faster.
            return AgentGrant(dispatch=row, reused=True)
        created = await self._effects.create(row)
        _log("dispatch", created)
        return AgentGrant(dispatch=created, reused=False)

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

    def _intended(self, wanted: AgentRequest, room: RoomInfo, now: int) -> Dispatch:
        return Dispatch(
            id=new_row_id(),
            room_name=wanted.room_name,
            room_sid=room.sid,
            agent_name=wanted.agent_name,
            state=State.CREATING,
            created_at=now,
            last_activity_at=now,
            timezone=wanted.timezone,
            timezone_offset_min=wanted.timezone_offset_min,
        )

    async def _remove_untracked(self, inspection: Inspection, keep: AssessedCandidate | None) -> None:
        """Take out the dispatches and agents of this name that no row of ours is about."""
        if not self._mode.keeps_one:
            return
        for assessed in inspection.assessed:
            candidate = assessed.candidate
            if assessed is keep or candidate.row or inspection.room is None:
                continue
            if candidate.listed:
                await self._livekit.delete_dispatch(inspection.room.name, candidate.listed.id)
            if candidate.agent and candidate.agent.identity:
                await self._livekit.remove_participant(inspection.room.name, candidate.agent.identity)

    async def _perform(self, effects: Iterable[tuple[Effect, Dispatch]]) -> None:
        for effect, dispatch in effects:
            await self._effects.perform(effect, dispatch)

    async def _advance(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        """Apply a signal that rests on evidence: only to the row as it was when that was gathered."""
        outcome = await self._processor.submit_one(
            Advance(room_name=dispatch.room_name, row_id=dispatch.id, signal=signal, version=dispatch.version)
        )
        if not outcome.applied and outcome.dispatch and outcome.dispatch.version != dispatch.version:
            raise _StaleInspection
        return outcome


def _without_create(outcome: Outcome) -> list[tuple[Effect, Dispatch]]:
    """The effects of an outcome but for a creation, which the caller sees to itself."""
    return [(effect, dispatch) for effect, dispatch in outcome.effects if effect is not Effect.CREATE]


def _event_of(inspection: Inspection) -> Event:
    """What the evidence says about our row, none of the candidates being good."""
    row = inspection.row
    assessed = inspection.of_row(row) if row else None
    if assessed is None:
        return Event.MISSING
    if assessed.health in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE):
        return Event.REFUTED
    return Event.JOIN_OVERDUE if row and row.state is State.STARTING else Event.AGENT_LOST


def _log(action: str, dispatch: Dispatch) -> None:
    logger.info(
        "An agent was granted",
        extra={
            "action": action,
            "dispatch_id": dispatch.dispatch_id,
            "room": dispatch.room_name,
            "agent": dispatch.agent_name,
            "state": dispatch.state,
        },
    )
