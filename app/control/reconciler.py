"""The reconciler: compares LiveKit with the tables, and repairs what a lost webhook or a crash has left."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from app.control.adoption import Adopter
from app.control.candidates import AgentHealth, AssessedCandidate, Inspection
from app.control.disputes import Disputes
from app.control.drift import matches, needs_inspection
from app.control.effects import EffectRunner
from app.control.former_agents import FormerAgents
from app.control.inspector import SECOND_PROBE_DELAY_S, RoomInspector
from app.control.processor import ChangeProcessor
from app.control.removal import Remover
from app.control.requests import AgentRequest
from app.control.warm_pool import WarmPool
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Dispatch, Event, Signal, State
from app.lifecycle.mode import Mode
from app.lifecycle.warm import is_holding_room
from app.livekit.interface import LiveKit, RoomInfo
from app.metrics.counters import SuppressedActions
from app.state.changes import Change, Outcome, RoomEvent, RoomEventKind, Snapshot
from app.state.leaves import DUPLICATE
from app.state.views import KnownRoom
from app.tasks import BackgroundTasks, batches

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: From the webhook of a room's end until LiveKit no longer lists it, with a margin.
_FORGETS_ROOM_S = 1.0

#: From the leave of an agent that connects anew to the webhook of its join. LiveKit may list neither before.
_REJOINS_WITHIN_S = 1.0

#: Until LiveKit shows the jobs of all dispatches.
_DECIDES_AFTER_S = 6.0

#: How many rooms are compared together.
_BATCH = 256


class Reconciler:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        effects: EffectRunner,
        adopter: Adopter,
        remover: Remover,
        disputes: Disputes,
        warm_pool: WarmPool,
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
        self._adopter = adopter
        self._remover = remover
        self._disputes = disputes
        self._warm_pool = warm_pool
        self._former_agents = FormerAgents(store)
        self._mode = mode
        self._suppressed = suppressed
        self._agent_names = tuple(agent_names)
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks = BackgroundTasks()
        self._round = 0
        #: Rooms in which LiveKit does not say yet whose agents are whose, and when they are looked at again.
        self._undecided: dict[str, asyncio.TimerHandle] = {}
        #: Why the last round failed; None if it succeeded, or before the first.
        self.problem: ServiceError | None = None
        #: Whether a round has succeeded since the start.
        self.has_succeeded = False
        #: Differences found since the start, by kind.
        self.drift: Counter[str] = Counter()
        processor.subscribe(self._follow)

    async def run(self) -> None:
        """Compare every room that LiveKit or the tables know; raises LiveKitUnavailable."""
        try:
            await self._run()
        except ServiceError as error:
            self.problem = error
            raise
        except Exception:
            self.problem = ServiceError("Unexpected error while comparing with LiveKit; see the log")
            raise
        self.problem = None
        self.has_succeeded = True

    async def _run(self) -> None:
        known = await self._store.known_rooms()
        rooms = await self._livekit.list_rooms()
        # What is in a holding room is the pool's business.
        holding_rooms = [room for room in rooms if is_holding_room(room.name)]
        listed = {room.name: room for room in rooms if not is_holding_room(room.name)}
        gone = [known[name] for name in known.keys() - listed.keys()]
        async for gone_rooms in batches(gone, _BATCH):
            await asyncio.gather(*map(self._note_gone, gone_rooms))
        is_complete = True
        async for batch in batches(list(listed.values()), _BATCH):
            compared = await asyncio.gather(*(self._compare(room, known.get(room.name)) for room in batch))
            is_complete = is_complete and all(compared)
        if is_complete and not self._undecided:
            # By now the pool knows each holding room whose agent is with people.
            await self._warm_pool.sweep(holding_rooms)
        self._round += 1

    async def _note_gone(self, room: KnownRoom) -> None:
        gone = Snapshot(room_name=room.name, room=None, generation=room.generation)
        self.drift.update((await self._processor.submit_one(gone)).drift)

    async def _compare(self, room: RoomInfo, known: KnownRoom | None) -> bool:
        """Compare one room, and inspect it only if needed; False: it could not be inspected."""
        if known is None or needs_inspection(room, known, self._round, self._livekit.now()):
            return await self._guarded(self.inspect, room.name, room.name)
        if known.rows:
            async with self._slots:
                participants = await self._livekit.list_participants(room.name)
            if not matches(known, participants):
                return await self._guarded(self.inspect, room.name, room.name)
        return True

    def spawn_inspection(self, room_name: str) -> None:
        """Inspect one room in the background, since something in it does not fit."""
        self._tasks.spawn(self._guarded(self.inspect, room_name, room_name), "inspection")

    def _inspect_later(self, room_name: str) -> None:
        def inspect_now() -> None:
            del self._undecided[room_name]
            self.spawn_inspection(room_name)

        if room_name not in self._undecided:
            loop = asyncio.get_running_loop()
            self._undecided[room_name] = loop.call_later(_DECIDES_AFTER_S, inspect_now)

    async def close(self, grace_s: float) -> None:
        for timer in self._undecided.values():
            timer.cancel()
        await self._tasks.drain(grace_s)

    def _follow(self, change: Change, outcome: Outcome) -> None:
        # A Snapshot is part of an inspection: to inspect after it would repeat for ever.
        if not isinstance(change, RoomEvent):
            return
        if outcome.disputed and not self._disputes.is_known(change):
            self._tasks.spawn(self._guarded(self._settle, change, change.room_name), "inspection")
        elif outcome.stranger and change.reason == DUPLICATE:
            self._tasks.spawn(self._inspect_soon(change.room_name), "inspection")
        elif outcome.stranger:
            self.spawn_inspection(change.room_name)

    async def _settle(self, event: RoomEvent) -> None:
        """Ask LiveKit which instance of a room exists: the inspection brings the tables into line."""
        room = await self.inspect(event.room_name)
        if event.kind is RoomEventKind.FINISHED and room and room.sid == event.room.sid:
            # LiveKit announces the end a moment before it forgets the room.
            await asyncio.sleep(_FORGETS_ROOM_S)
            room = await self.inspect(event.room_name)
        self._disputes.judge(event, room)

    async def _inspect_soon(self, room_name: str) -> None:
        """Ask LiveKit who has an agent's identity now, unless a webhook has told it by then."""
        await asyncio.sleep(_REJOINS_WITHIN_S)
        await self._guarded(self._inspect_vacant, room_name, room_name)

    async def _inspect_vacant(self, room_name: str) -> None:
        if await self._store.vacant_rooms(room_name):
            await self.inspect(room_name)

    async def _guarded(self, work: Callable[[T], Awaitable[object]], subject: T, room_name: str) -> bool:
        """Whether it succeeded."""
        try:
            async with self._slots:
                await work(subject)
        except ServiceError as error:
            logger.warning(
                "Room could not be inspected; the next round retries",
                extra={"action": "reconcile", "room": room_name, "code": error.code},
            )
        except Exception:
            logger.exception(
                "Unexpected error while inspecting a room",
                extra={"action": "reconcile", "room": room_name},
            )
        else:
            return True
        return False

    async def inspect(self, room_name: str) -> RoomInfo | None:
        """Bring the rows and agents of one room into line with what LiveKit reports; None: no such room."""
        reading = await self._inspector.read_room(room_name)
        self.drift.update(reading.outcome.drift)
        names = {p.agent_name for p in reading.participants} | {d.agent_name for d in reading.listed}
        names |= {row.agent_name for row in reading.rows if row.state is not State.ENDING}
        for agent_name in self._agent_names:
            if agent_name in names:
                async with self._effects.exclusive(room_name, agent_name):
                    unresponsive = await self._inspect_agent(room_name, agent_name)
                if unresponsive:
                    # Without the lock, so that a request for the agent does not wait.
                    await asyncio.sleep(SECOND_PROBE_DELAY_S)
                    async with self._effects.exclusive(room_name, agent_name):
                        await self._inspect_agent(room_name, agent_name, unresponsive)
        return reading.room

    async def _inspect_agent(
        self, room_name: str, agent_name: str, unresponsive_before: str | None = None
    ) -> str | None:
        """Returns the identity of an agent with people that is unresponsive for the first time."""
        inspection = await self._inspector.inspect_for_people(room_name, agent_name)
        best, row = inspection.best(), inspection.row
        health = inspection.health_of(row) if row else None
        if row and row.state is State.CREATING:
            # Its creation, or the end of its lease, settles it.
            return None
        if inspection.is_on_hold:
            await self._remove_extras(inspection, None, room_name)
            return None
        if inspection.is_undecided:
            self._inspect_later(room_name)
            return None
        unresponsive = None
        if row and not self._mode.keeps_one:
            # In this mode a room may have several agents.
            pass
        elif best and best.candidate.row is None and inspection.room and best.candidate.listed:
            await self._adopt(best, inspection, inspection.room, agent_name)
        elif row and health is None and row.state is not State.UNAVAILABLE:
            await self._correct(row, Event.MISSING)
        elif row and health is AgentHealth.ABSENT and row.state in (State.ACTIVE, State.IDLE):
            # Another agent in the room might have been its, and is not.
            await self._correct(row, Event.AGENT_LOST)
        elif row and health and health.is_broken and inspection.people:
            if health is AgentHealth.UNRESPONSIVE and row.agent_identity != unresponsive_before:
                unresponsive = row.agent_identity
            else:
                await self._correct(row, Event.REFUTED)
        await self._remove_extras(inspection, best, room_name)
        return unresponsive

    async def _remove_extras(
        self, inspection: Inspection, best: AssessedCandidate | None, room_name: str
    ) -> None:
        extras = [one for one in inspection.assessed if one is not best and one.candidate.row is None]
        if not inspection.is_on_hold and any(
            one.candidate.hides_its_agent(self._livekit.now()) for one in inspection.assessed
        ):
            # Any agent may belong to that dispatch: a later inspection, with its job shown, can decide.
            kept = [
                one
                for one in extras
                if one.candidate.agent and not await self._former_agents.has(one.candidate.agent, room_name)
            ]
            if kept:
                self._inspect_later(room_name)
            extras = [one for one in extras if one not in kept]
        for assessed in extras:
            if self._mode.ends:
                self.drift["extra"] += 1
                await self._remover.remove_candidate(room_name, assessed.candidate)
            else:
                self._suppressed.note("remove_extra", assessed.candidate.name)

    async def _adopt(
        self, best: AssessedCandidate, inspection: Inspection, room: RoomInfo, agent_name: str
    ) -> None:
        if inspection.row:
            # Not MISSING, even if LiveKit does not list it: that would create a successor.
            await self._correct(inspection.row, Event.DUPLICATE)
        self.drift["adopted"] += 1
        request = AgentRequest(room_name=room.name, agent_name=agent_name)
        await self._adopter.adopt(best, inspection, request)

    async def _correct(self, row: Dispatch, event: Event) -> None:
        outcome = await self._processor.advance(row, Signal(event=event), row.version)
        if outcome.applied:
            self.drift[event] += 1
            self._effects.spawn(outcome.effects)
