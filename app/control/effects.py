"""Effects: runs the actions in LiveKit that the lifecycle decided on.

Always in this order: store the intent, read LiveKit, change LiveKit, store the result. A crash between two
steps leaves a row with a deadline, and the deadline resumes the work.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager

from app.control.candidates import AgentHealth
from app.control.creation import Creator
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor
from app.control.removal import Remover
from app.control.session_warnings import SessionWarner
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Dispatch, Effect, Event, Signal, State
from app.lifecycle.mode import Mode
from app.livekit.interface import LiveKit, RoomInfo
from app.state.changes import Advance, Change, Effects, Intent, Outcome, RoomEvent, RoomEventKind
from app.state.links import has_lost_its_user
from app.state.presence import ParticipantKind
from app.tasks import BackgroundTasks, KeyedLocks

logger = logging.getLogger(__name__)

#: People who leave together are gone within this time, and LiveKit's list with them: a call that ends has
#: nobody left for whom its agent would be replaced.
_LEAVE_TOGETHER_S = 0.5


class EffectRunner:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        inspector: RoomInspector,
        creator: Creator,
        remover: Remover,
        warner: SessionWarner,
        *,
        mode: Mode,
        concurrency: int = 64,
    ) -> None:
        """`concurrency`: effects at once."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._inspector = inspector
        self._creator = creator
        self._remover = remover
        self._warner = warner
        self._mode = mode
        self._slots = asyncio.Semaphore(concurrency)
        self._locks = KeyedLocks[tuple[str, str]]()
        self._tasks = BackgroundTasks()
        processor.subscribe(self._follow)

    def exclusive(self, room_name: str, agent_name: str) -> AbstractAsyncContextManager[None]:
        """A lock for each room and agent name, in this process."""
        return self._locks.hold((room_name, agent_name))

    def spawn(self, effects: Effects) -> None:
        """Run effects in the background; the deadline of a row retries those that fail."""
        # The other one is run by `AgentReadiness`, without a lock.
        if own := tuple(one for one in effects if one[0] is not Effect.CHECK_READY):
            self._tasks.spawn(self._run_all(own), "effects")

    async def close(self, grace_s: float) -> None:
        await self._tasks.drain(grace_s)

    def _follow(self, change: Change, outcome: Outcome) -> None:
        # Whoever submits an Advance or an Intent runs its effects.
        if isinstance(change, Advance | Intent):
            return
        if isinstance(change, RoomEvent) and change.kind is RoomEventKind.LEFT:
            checks = tuple(one for one in outcome.effects if one[0] is Effect.CHECK)
            if checks:
                self._tasks.spawn(self._check_after_leaves(checks), "effects")
            self.spawn(tuple(one for one in outcome.effects if one[0] is not Effect.CHECK))
            return
        self.spawn(outcome.effects)

    async def _check_after_leaves(self, checks: Effects) -> None:
        await asyncio.sleep(_LEAVE_TOGETHER_S)
        await self._run_all(checks)

    async def _run_all(self, effects: Effects) -> None:
        for effect, dispatch in effects:
            try:
                async with self._slots, self.exclusive(dispatch.room_name, dispatch.agent_name):
                    await self.run(effect, dispatch)
            except ServiceError as error:
                logger.warning(
                    "Effect failed; it is retried at the deadline of its dispatch",
                    extra={
                        "action": effect,
                        "dispatch_id": dispatch.dispatch_id or dispatch.id,
                        "code": error.code,
                    },
                )
            except Exception:
                logger.exception("Unexpected error while running an effect", extra={"action": effect})

    async def run(self, effect: Effect, dispatch: Dispatch, room: RoomInfo | None = None) -> None:
        """Run one effect, if it still fits the state of its row. The caller holds `exclusive`.

        `room`: as LiveKit has just reported it; None: LiveKit is asked if needed.
        """
        if effect is Effect.ALERT:
            logger.warning(
                "No worker provides an agent for the room",
                extra={"action": "unavailable", "room": dispatch.room_name, "agent": dispatch.agent_name},
            )
            return
        known = await self._store.room(dispatch.room_name)
        current = known.row(dispatch.id)
        if current is None:
            return
        match effect:
            case Effect.CREATE if current.state is State.CREATING:
                await self._creator.create(current)
            case Effect.REMOVE if current.state is State.ENDING:
                self.spawn(await self._remover.remove(current, room))
            case Effect.EXPIRE if current.state is State.ENDING:
                self.spawn(await self._remover.expire(current, known.generation))
            case Effect.CHECK if current.state in (State.ACTIVE, State.IDLE) and self._mode.keeps_one:
                await self._check(current)
            case Effect.CHECK_JOB if current.state is State.STARTING:
                await self._check_job(current)
            case Effect.WARN if current.state in (State.ACTIVE, State.IDLE):
                await self._warner.warn(current)

    async def run_now(self, effects: Effects, room: RoomInfo | None = None) -> None:
        """Run effects one after the other; see `run`."""
        for effect, dispatch in effects:
            await self.run(effect, dispatch, room)

    async def replace_unresponsive(self, dispatch: Dispatch) -> None:
        """Replace an agent that did not answer, unless the dispatch has another agent by now."""
        async with self._slots, self.exclusive(dispatch.room_name, dispatch.agent_name):
            participants = await self._livekit.list_participants(dispatch.room_name)
            if not any(participant.kind is ParticipantKind.PERSON for participant in participants):
                # They have left in the meantime: nobody wants a new agent.
                return
            current = await self._store.dispatch(dispatch.id)
            if current and current.agent_identity == dispatch.agent_identity:
                await self._advance(current, Event.REFUTED)

    async def _check(self, dispatch: Dispatch) -> None:
        """Somebody has joined or left: replace the agent if its session is closed.

        One that does not answer is left to the periodic probe, which asks twice: a single question is lost
        now and then, and a good agent must not go for it.
        """
        joined_at, identity = dispatch.agent_joined_at, dispatch.agent_identity
        if joined_at is None or identity is None:
            return
        if not has_lost_its_user(await self._store.company(dispatch.room_sid, identity, joined_at)):
            return
        inspection = await self._inspector.inspect_for_people(dispatch.room_name, dispatch.agent_name)
        if inspection.health_of(dispatch) is AgentHealth.SESSION_CLOSED:
            await self._advance(dispatch, Event.REFUTED)

    async def _check_job(self, dispatch: Dispatch) -> None:
        """No agent has joined yet: if no worker has accepted the job, none will, so do not wait for it.

        LiveKit offers a job to one worker, and gives up after 3 s if that worker is frozen
        (livekit-server 1.13.5, service/agentservice.go, JobRequest).
        """
        listed = await self._livekit.list_dispatches(dispatch.job_room_name)
        own = next((found for found in listed if found.id == dispatch.dispatch_id), None)
        if own is None or not own.agent_identities:
            await self._advance(dispatch, Event.UNTAKEN)

    async def _advance(self, dispatch: Dispatch, event: Event) -> None:
        await self.run_now((await self._processor.advance(dispatch, Signal(event=event))).effects)
