"""Carries out what the lifecycle decided: makes agents in LiveKit, takes them out, records what came of it.

In this order always: the database has the intent, LiveKit is asked, LiveKit is told, the database has the
result. A crash between any two leaves a row with a deadline, and whoever meets the deadline goes on.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import ParamSpec, TypeVar

from app.control.candidates import AgentHealth
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor, new_row_id
from app.control.tasks import KeyedLocks, drain
from app.database.store import Store
from app.errors import LiveKitRefused, LiveKitUnavailable, LiveKitUnreachable, ServiceError
from app.lifecycle import LIVE_STATES, Dispatch, Effect, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import ListedDispatch, LiveKit, RoomInfo
from app.metrics.counters import Counters, SuppressedActions
from app.state.changes import Advance, Outcome, RoomEvent, RoomEventKind, Snapshot
from app.state.presence import Participant, ParticipantKind

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Waits between the tries of a creation.
_CREATE_WAITS_S = (1, 2)


class EffectRunner:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        counters: Counters,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
        room_timeout_s: int,
        acts: int = 64,
        removal_calls: int = 32,
    ) -> None:
        """`acts`: effects at once; `removal_calls`: calls to LiveKit at once by those that remove agents."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._inspector = inspector
        self._counters = counters
        self._mode = mode
        self._suppressed = suppressed
        self._room_timeout_s = room_timeout_s
        self._slots = asyncio.Semaphore(acts)
        # Of its own, since most of a removal is not LiveKit's: when many TTLs end at once, whoever waits for
        # the database is not to keep the next from LiveKit.
        self._removal_calls = asyncio.Semaphore(removal_calls)
        self._locks = KeyedLocks[tuple[str, str]]()
        self._short_rooms = _ShortRoomWarning(room_timeout_s)
        self._tasks: set[asyncio.Task[None]] = set()

    def exclusive(self, room_name: str, agent_name: str) -> AbstractAsyncContextManager[None]:
        """One act at a time for each room and agent name, in this process."""
        return self._locks.hold((room_name, agent_name))

    def spawn(self, effects: Iterable[tuple[Effect, Dispatch]]) -> None:
        """Carry out effects in the background; what fails is tried again at the row's deadline."""
        listed = list(effects)
        if not listed:
            return
        task = asyncio.create_task(self._perform_all(listed), name="effects")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, grace_s: float) -> None:
        await drain(self._tasks, grace_s)

    async def _perform_all(self, effects: list[tuple[Effect, Dispatch]]) -> None:
        for effect, dispatch in effects:
            try:
                async with self._slots, self.exclusive(dispatch.room_name, dispatch.agent_name):
                    await self.perform(effect, dispatch)
            except ServiceError as error:
                logger.warning(
                    "An effect could not be carried out; it is tried again at its deadline",
                    extra={
                        "action": effect,
                        "dispatch_id": dispatch.dispatch_id or dispatch.id,
                        "code": error.code,
                    },
                )
            except Exception:
                logger.exception("An effect failed in a way that nobody foresaw", extra={"action": effect})

    async def perform(self, effect: Effect, dispatch: Dispatch) -> None:
        """Carry out one effect, if its row still calls for it. The caller is alone with the room's agent."""
        if effect is Effect.ALERT:
            logger.warning(
                "No worker brings an agent into the room",
                extra={"action": "unavailable", "room": dispatch.room_name, "agent": dispatch.agent_name},
            )
            return
        room = await self._store.room(dispatch.room_name)
        current = room.row(dispatch.id)
        if current is None:
            return
        match effect:
            case Effect.CREATE if current.state is State.CREATING:
                await self.create(current)
            case Effect.REMOVE if current.state is State.ENDING:
                await self.remove(current)
            case Effect.EXPIRE if current.state is State.ENDING:
                await self._expire(current, room.generation)
            case Effect.CHECK if current.state in (State.ACTIVE, State.IDLE) and self._mode.keeps_one:
                await self._check(current)
            case Effect.CHECK_JOB if current.state is State.STARTING:
                await self._check_job(current)

    async def create(self, dispatch: Dispatch) -> Dispatch:
        """Make the dispatch in LiveKit, or find it there, and return it as it stands then.

        Raises:
            LiveKitRefused, LiveKitUnreachable: it was not made; the dispatch has ended.
            LiveKitUnavailable: it may have been made; the row stays, and its deadline settles it.
        """
        with self._counters.creation():
            return await self._create(dispatch)

    async def _create(self, dispatch: Dispatch) -> Dispatch:
        try:
            room = await self._livekit.ensure_room(dispatch.room_name, self._room_timeout_s)
            if room.sid != dispatch.room_sid:
                # The room is another one by now, and the dispatch was meant for the old one.
                await self._processor.submit_one(
                    RoomEvent(event_id=new_row_id(), kind=RoomEventKind.STARTED, room=room)
                )
                raise LiveKitUnavailable("the room was closed and opened again meanwhile")
            self._short_rooms.look_at(room)
            listed = await self._create_in_livekit(dispatch)
        except (LiveKitRefused, LiveKitUnreachable):
            await self._advance(dispatch, Signal(event=Event.NOT_DISPATCHED))
            raise
        signal = Signal(event=Event.DISPATCHED, dispatch_id=listed.id, dispatched_at=listed.created_at)
        outcome = await self._advance(dispatch, signal)
        if outcome.dispatch is None or outcome.dispatch.state not in LIVE_STATES:
            await self._livekit.delete_dispatch(dispatch.room_name, listed.id)
            raise LiveKitUnavailable("the room was closed meanwhile")
        if outcome.dispatch.dispatch_id != listed.id:
            # Whoever took the lease over while LiveKit was slow has made one, and it is in the row.
            await self._livekit.delete_dispatch(dispatch.room_name, listed.id)
        return outcome.dispatch

    async def _create_in_livekit(self, dispatch: Dispatch) -> ListedDispatch:
        for wait_s in (*_CREATE_WAITS_S, None):
            try:
                found = await self._find_in_livekit(dispatch)
                return found or await self._livekit.create_dispatch(
                    dispatch.room_name, dispatch.agent_name, dispatch.id, _metadata(dispatch)
                )
            except LiveKitUnavailable:
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _find_in_livekit(self, dispatch: Dispatch) -> ListedDispatch | None:
        """The dispatch in LiveKit, by the row id that we gave it: an earlier answer may have been lost."""
        listed = await self._livekit.list_dispatches(dispatch.room_name)
        return next((found for found in listed if found.row_id == dispatch.id), None)

    async def _expire(self, dispatch: Dispatch, generation: int) -> None:
        """Remove a dispatch whose TTL has passed, unless LiveKit says that somebody is in.

        `generation` is the room's from before LiveKit is asked.
        """
        try:
            room = await self._paced(self._livekit.find_room, dispatch.room_name)
            participants = (
                await self._paced(self._livekit.list_participants, dispatch.room_name) if room else ()
            )
        except ServiceError:
            await self._failed(dispatch)
            raise
        people = sum(participant.kind is ParticipantKind.PERSON for participant in participants)
        if room and room.sid == dispatch.room_sid and people:
            await self._processor.submit(
                Snapshot(
                    room_name=dispatch.room_name, room=room, participants=participants, generation=generation
                ),
                _advance_of(dispatch, Signal(event=Event.OCCUPIED, people=people)),
            )
            return
        await self._remove(dispatch, room)

    async def remove(self, dispatch: Dispatch) -> None:
        """Delete the dispatch from LiveKit, take its agent out, and see that both are gone.

        Raises:
            LiveKitUnavailable, LiveKitRefused: not done; counted, and tried again.
        """
        room = None
        if not self._mode.withholds_removal(dispatch.end_reason):
            try:
                room = await self._paced(self._livekit.find_room, dispatch.room_name)
            except ServiceError:
                await self._failed(dispatch)
                raise
        await self._remove(dispatch, room)

    async def _remove(self, dispatch: Dispatch, room: RoomInfo | None) -> None:
        """As `remove`, from the room as it was found just now."""
        if self._mode.withholds_removal(dispatch.end_reason):
            self._suppressed.note("remove", dispatch.id)
            await self._advance(dispatch, Signal(event=Event.REMOVED))
            return
        try:
            if room and room.sid == dispatch.room_sid:
                await self._remove_from_livekit(dispatch)
        except ServiceError:
            await self._failed(dispatch)
            raise
        self.spawn((await self._advance(dispatch, Signal(event=Event.REMOVED))).effects)

    async def _failed(self, dispatch: Dispatch) -> None:
        outcome = await self._advance(dispatch, Signal(event=Event.REMOVE_FAILED))
        failures = outcome.dispatch.cleanup_failures if outcome.dispatch else 0
        level = logging.ERROR if failures >= 3 else logging.WARNING  # noqa: PLR2004 - as the design has it
        extra = {"action": "cleanup_failed", "dispatch_id": dispatch.dispatch_id, "failures": failures}
        logger.log(level, "An agent could not be removed; it is tried again", extra=extra)

    async def _remove_from_livekit(self, dispatch: Dispatch) -> None:
        dispatch_id = dispatch.dispatch_id
        if dispatch_id is None:
            found = await self._find_in_livekit(dispatch)
            dispatch_id = found.id if found else None
        if dispatch_id:
            await self._paced(self._livekit.delete_dispatch, dispatch.room_name, dispatch_id)
        # LiveKit deletes a young dispatch only at the 5 s mark, and never takes a dead agent out.
        agents = await self._agents_of(dispatch)
        for agent in agents:
            await self._paced(self._livekit.remove_participant, dispatch.room_name, agent)
        if agents and await self._agents_of(dispatch):
            raise LiveKitUnavailable("the agent is still in the room")

    async def _paced(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._removal_calls:
            return await call(*args, **kwargs)

    async def _agents_of(self, dispatch: Dispatch) -> list[str]:
        """The agents in the room that belong to the dispatch, or to none of ours."""
        agents = {
            participant.identity: participant
            for participant in await self._paced(self._livekit.list_participants, dispatch.room_name)
            if participant.kind is ParticipantKind.AGENT and participant.identity is not None
        }
        if not agents:
            return []
        rows = (await self._store.room(dispatch.room_name)).dispatches
        others = {row.agent_identity for row in rows if row.id != dispatch.id}
        taken_over_at = min(
            (row.dispatched_at for row in rows if row.succeeds == dispatch.id and row.dispatched_at),
            default=None,
        )
        found = []
        for identity, agent in agents.items():
            is_stray = (
                dispatch.agent_identity is None
                and agent.agent_name == dispatch.agent_name
                and _came_between(agent, dispatch.dispatched_at, taken_over_at)
            )
            if identity not in others and (identity == dispatch.agent_identity or is_stray):
                found.append(identity)
        return found

    async def refute(self, dispatch: Dispatch) -> None:
        """Replace an agent that did not answer, unless another has taken its place meanwhile."""
        async with self._slots, self.exclusive(dispatch.room_name, dispatch.agent_name):
            current = await self._store.dispatch(dispatch.id)
            if current and current.agent_identity == dispatch.agent_identity:
                await self._conclude(current, Event.REFUTED)

    async def _check(self, dispatch: Dispatch) -> None:
        """Somebody has come: replace the agent if it cannot answer any more."""
        joined_at = dispatch.agent_joined_at
        if joined_at is None or not await self._store.closing_leave_since(dispatch.room_sid, joined_at):
            return
        inspection = await self._inspector.examine(dispatch.room_name, dispatch.agent_name)
        assessed = inspection.of_row(dispatch)
        if assessed and assessed.health in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE):
            await self._conclude(dispatch, Event.REFUTED)

    async def _check_job(self, dispatch: Dispatch) -> None:
        """No agent has come yet: unless a worker has taken the job, none will, so do not wait for it.

        LiveKit offers a job to one worker, and gives up after 3 s when that one is frozen
        (livekit-server 1.13.5, service/agentservice.go, JobRequest).
        """
        listed = await self._livekit.list_dispatches(dispatch.room_name)
        own = next((found for found in listed if found.id == dispatch.dispatch_id), None)
        if own is None or not own.agent_identities:
            await self._conclude(dispatch, Event.UNTAKEN)

    async def _conclude(self, dispatch: Dispatch, event: Event) -> None:
        outcome = await self._advance(dispatch, Signal(event=event))
        for effect, subject in outcome.effects:
            await self.perform(effect, subject)

    async def _advance(self, dispatch: Dispatch, signal: Signal) -> Outcome:
        return await self._processor.submit_one(_advance_of(dispatch, signal))


def _advance_of(dispatch: Dispatch, signal: Signal) -> Advance:
    return Advance(room_name=dispatch.room_name, row_id=dispatch.id, signal=signal)


def _came_between(agent: Participant, start: int | None, end: int | None) -> bool:
    joined_at = agent.joined_at or 0
    return (start is None or joined_at >= start) and (end is None or joined_at < end)


def _metadata(dispatch: Dispatch) -> str:
    """What the agent is told: the validated time zone, and nothing of the caller's own words."""
    told = {"timezone": dispatch.timezone, "timezoneOffset": dispatch.timezone_offset_min}
    return json.dumps({key: value for key, value in told.items() if value is not None})


class _ShortRoomWarning:
    def __init__(self, wanted_s: int) -> None:
        self._wanted_s = wanted_s
        self._warned = False

    def look_at(self, room: RoomInfo) -> None:
        if room.departure_timeout_s >= self._wanted_s or self._warned:
            return
        self._warned = True
        logger.warning(
            "A room was made by others to close before the TTL of its agent; more may be",
            extra={
                "action": "short_room",
                "room": room.name,
                "departure_timeout_s": room.departure_timeout_s,
                "wanted_s": self._wanted_s,
            },
        )
