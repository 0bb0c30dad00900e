"""The reconciler: compares LiveKit with the tables, and heals what a lost webhook or a crash has left."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from app.control.candidates import AgentHealth, AssessedCandidate, Inspection
from app.control.dispatcher import Dispatcher
from app.control.drift import matches, needs_inspection
from app.control.effects import EffectRunner
from app.control.inspector import SECOND_LOOK_S, RoomInspector
from app.control.processor import ChangeProcessor
from app.control.removal import Remover
from app.control.requests import AgentRequest
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import SECOND_US, Dispatch, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import LiveKit, RoomInfo
from app.metrics.counters import SuppressedActions
from app.state.changes import Change, Outcome, RoomEvent, Snapshot
from app.state.views import KnownRoom
from app.tasks import BackgroundTasks

logger = logging.getLogger(__name__)

#: LiveKit shows the job of a dispatch from 5 s on.
_JOB_SHOWN_US = 6 * SECOND_US


T = TypeVar("T")

#: So many rooms are looked after at once, and others have their turn before the next.
_PORTION = 256


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _PORTION):
        yield items[start : start + _PORTION]


class Reconciler:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        effects: EffectRunner,
        dispatcher: Dispatcher,
        remover: Remover,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
        agent_names: Iterable[str],
        concurrency: int = 16,
    ) -> None:
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._inspector = inspector
        self._effects = effects
        self._dispatcher = dispatcher
        self._remover = remover
        self._mode = mode
        self._suppressed = suppressed
        self._agent_names = tuple(agent_names)
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks = BackgroundTasks()
        self._round = 0
        #: Why the last round could not be done; None after one that could, or before the first.
        self.problem: ServiceError | None = None
        #: Differences found since the start, by kind.
        self.drift: Counter[str] = Counter()
        processor.subscribe(self._follow)

    async def run(self) -> None:
        """Compare every room that either side knows; raises LiveKitUnavailable when it cannot ask."""
        try:
            await self._run()
        except ServiceError as error:
            self.problem = error
            raise
        self.problem = None

    async def _run(self) -> None:
        known = await self._store.known_rooms()
        listed = {room.name: room for room in await self._livekit.list_rooms()}
        gone = [known[name] for name in known.keys() - listed.keys()]
        for some_gone in _portions(gone):
            await asyncio.gather(*map(self._note_gone, some_gone))
        for some in _portions(list(listed.values())):
            await asyncio.gather(*(self._look(room, known.get(room.name)) for room in some))
        self._round += 1

    async def _note_gone(self, room: KnownRoom) -> None:
        gone = Snapshot(room_name=room.name, room=None, generation=room.generation)
        self.drift.update((await self._processor.submit_one(gone)).drift)

    async def _look(self, room: RoomInfo, known: KnownRoom | None) -> None:
        """Compare one room, as cheaply as what is known of it allows."""
        if known is None or needs_inspection(room, known, self._round, self._livekit.now()):
            await self._inspect_guarded(room.name)
        elif known.rows:
            async with self._slots:
                participants = await self._livekit.list_participants(room.name)
            if not matches(known, participants):
                await self._inspect_guarded(room.name)

    def spawn_inspection(self, room_name: str) -> None:
        """Look at one room in the background: something in it does not fit."""
        self._tasks.spawn(self._inspect_guarded(room_name), "inspection")

    async def close(self, grace_s: float) -> None:
        await self._tasks.drain(grace_s)

    def _follow(self, change: Change, outcome: Outcome) -> None:
        # A Snapshot is part of an inspection: another one would find the same stranger for ever.
        if outcome.stranger and isinstance(change, RoomEvent):
            self.spawn_inspection(change.room_name)

    async def _inspect_guarded(self, room_name: str) -> None:
        try:
            async with self._slots:
                await self.inspect(room_name)
        except ServiceError as error:
            logger.warning(
                "A room could not be inspected; the next round retries it",
                extra={"action": "reconcile", "room": room_name, "code": error.code},
            )
        except Exception:
            logger.exception(
                "Unexpected error while inspecting a room",
                extra={"action": "reconcile", "room": room_name},
            )

    async def inspect(self, room_name: str) -> None:
        """Bring presence, dispatches and agents of one room into line with LiveKit."""
        reading = await self._inspector.read_room(room_name)
        self.drift.update(reading.outcome.drift)
        names = {p.agent_name for p in reading.participants} | {d.agent_name for d in reading.listed}
        names |= {row.agent_name for row in reading.rows if row.state is not State.ENDING}
        for agent_name in self._agent_names:
            if agent_name in names:
                async with self._effects.exclusive(room_name, agent_name):
                    silent = await self._inspect_agent(room_name, agent_name)
                if silent:
                    # Whoever asks for the agent meanwhile need not wait.
                    await asyncio.sleep(SECOND_LOOK_S)
                    async with self._effects.exclusive(room_name, agent_name):
                        await self._inspect_agent(room_name, agent_name, silent)

    async def _inspect_agent(
        self, room_name: str, agent_name: str, silent_before: str | None = None
    ) -> str | None:
        """The identity of an agent with people in that did not react, unless it did not before either."""
        inspection = await self._inspector.examine(room_name, agent_name)
        best, row = inspection.best(), inspection.row
        if row and row.state is State.CREATING:
            # Its creation, or its lease, settles it.
            return None
        silent = None
        if row and not self._mode.keeps_one:
            # One of several is as good as another: nothing is to be done about the rest.
            pass
        elif best and best.candidate.row is None and inspection.room and best.candidate.listed:
            await self._take_over(best, inspection, inspection.room, agent_name)
        elif row and inspection.of_row(row) is None and row.state is not State.UNAVAILABLE:
            await self._conclude(row, Event.MISSING)
        elif row and inspection.people and self._mode.keeps_one:
            health = _health_of(row, inspection)
            if health is AgentHealth.UNRESPONSIVE and row.agent_identity != silent_before:
                silent = row.agent_identity
            elif health in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE):
                await self._conclude(row, Event.REFUTED)
        await self._remove_extras(inspection, best, room_name)
        return silent

    async def _remove_extras(
        self, inspection: Inspection, best: AssessedCandidate | None, room_name: str
    ) -> None:
        extras = [j for j in inspection.assessed if j is not best and j.candidate.row is None]
        if any(self._hides_its_agent(assessed) for assessed in inspection.assessed):
            # Any agent may be that one's: a look once LiveKit shows its job tells them apart.
            extras = [assessed for assessed in extras if assessed.candidate.agent is None]
        for assessed in extras:
            if self._mode.ends:
                self.drift["extra"] += 1
                await self._remover.remove_candidate(room_name, assessed.candidate)
            else:
                self._suppressed.note("remove_extra", assessed.candidate.name)

    async def _take_over(
        self, best: AssessedCandidate, inspection: Inspection, room: RoomInfo, agent_name: str
    ) -> None:
        if inspection.row:
            # Not MISSING, even where LiveKit does not list it: that would bring a successor.
            await self._conclude(inspection.row, Event.DUPLICATE)
        self.drift["adopted"] += 1
        await self._dispatcher.adopt(
            best, inspection, AgentRequest(room_name=room.name, agent_name=agent_name)
        )

    async def _conclude(self, row: Dispatch, event: Event) -> None:
        outcome = await self._processor.advance(row, Signal(event=event), row.version)
        if outcome.applied:
            self.drift[event] += 1
            self._effects.spawn(outcome.effects)

    def _hides_its_agent(self, assessed: AssessedCandidate) -> bool:
        """Whether LiveKit may not say yet whose agent the dispatch's is."""
        listed = assessed.candidate.listed
        if listed is None or listed.agent_identities:
            return False
        return self._livekit.now() - listed.created_at < _JOB_SHOWN_US


def _health_of(row: Dispatch, inspection: Inspection) -> AgentHealth | None:
    assessed = inspection.of_row(row)
    return assessed.health if assessed else None
