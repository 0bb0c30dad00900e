"""Agent readiness: finds out when an agent that has joined answers."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from app.clock import Clock
from app.control.effects import EffectRunner
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import SECOND_US, Dispatch, Effect, Event, Signal, State
from app.livekit.interface import LiveKit, Probe
from app.state.changes import Change, Outcome
from app.tasks import BackgroundTasks

#: The waits between the probes of an agent that does not answer yet: the data channel of most opens at once.
#: After the last one the periodic probe, or the next call that waits, finds out.
_WAITS_S = (0.1, 0.2, 0.4, 0.8, *(60 * [1.0]))


#: An agent that cannot be asked, and reports no session, counts as ready this long after its join: it may be
#: none of livekit-agents', or one with the helper that has not come to its start yet.
_SILENT_US = 5 * SECOND_US


class AgentReadiness:
    """Runs the effect `check_ready`, whoever submitted the change that ordered it.

    It takes no lock of the room: a probe may last seconds, and a call for the agent must not wait for it.
    """

    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        effects: EffectRunner,
        clock: Clock,
        *,
        concurrency: int = 32,
    ) -> None:
        """`concurrency`: probes at once."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._effects = effects
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks = BackgroundTasks()
        #: The agents that are being probed, by row and identity.
        self._under_way: dict[tuple[str, str | None], asyncio.Task[None]] = {}
        #: Of each that is probed again after a wait: ends the wait.
        self._waits: dict[Dispatch, asyncio.Event] = {}
        self._is_closing = False
        processor.subscribe(self._follow)

    async def close(self) -> None:
        """End the probes: there is nothing to finish, and the next start finds out by its periodic probe."""
        self._is_closing = True
        await self._tasks.drain(0)

    def check(self, dispatch: Dispatch) -> None:
        """Probe the agent in the background until it answers, unless it is being probed already."""
        if _is_awaited(dispatch) and _key(dispatch) not in self._under_way and not self._is_closing:
            self._spawn(dispatch, self._begin(dispatch), "effects")

    def _follow(self, _change: Change, outcome: Outcome) -> None:
        for effect, dispatch in outcome.effects:
            if effect is Effect.CHECK_READY:
                self.check(dispatch)
        for transition in outcome.transitions:
            if transition.after.state is State.ENDED:
                self._hurry_successor(transition.after)

    def _hurry_successor(self, ended: Dispatch) -> None:
        """The agent that has taken over answers by now, and until it is known to, nobody seems to."""
        for dispatch, wait in self._waits.items():
            if dispatch.succeeds == ended.id:
                wait.set()

    def _spawn(self, dispatch: Dispatch, work: Coroutine[Any, Any, None], name: str) -> None:
        key = _key(dispatch)
        task = self._tasks.spawn(work, name)
        self._under_way[key] = task

        def forget(_: asyncio.Task[None]) -> None:
            if self._under_way.get(key) is task:
                del self._under_way[key]

        task.add_done_callback(forget)

    async def _begin(self, dispatch: Dispatch) -> None:
        if not await self._try(dispatch):
            self._spawn(dispatch, self._repeat(dispatch), "readiness")

    async def _repeat(self, dispatch: Dispatch) -> None:
        wait = self._waits[dispatch] = asyncio.Event()
        try:
            for wait_s in _WAITS_S:
                with suppress(TimeoutError):
                    await asyncio.wait_for(wait.wait(), wait_s)
                wait.clear()
                if await self._try(dispatch):
                    return
        finally:
            del self._waits[dispatch]

    async def _try(self, dispatch: Dispatch) -> bool:
        """Probe the agent once; True if there is nothing to wait for any more."""
        try:
            current = await self._store.dispatch(dispatch.id)
            if current is None or not _is_awaited(current) or _key(current) != _key(dispatch):
                return True
            async with self._slots:
                is_ready = await self._is_ready(dispatch)
            if is_ready:
                signal = Signal(event=Event.READY, agent_identity=dispatch.agent_identity)
                self._effects.spawn((await self._processor.advance(dispatch, signal)).effects)
                return True
        except ServiceError:
            # LiveKit or the database is not available, or the agent has just left.
            pass
        return False

    async def _is_ready(self, dispatch: Dispatch) -> bool:
        probe = await self._livekit.probe(dispatch.room_name, dispatch.agent_identity or "")
        if probe not in (Probe.ALIVE, Probe.UNSUPPORTED):
            return probe is Probe.OPEN
        # It cannot be asked, but its session publishes its state.
        present = await self._livekit.list_participants(dispatch.room_name)
        agent = next((one for one in present if one.identity == dispatch.agent_identity), None)
        if agent is None:
            return False
        return agent.has_session or self._clock.now() - (dispatch.agent_joined_at or 0) >= _SILENT_US


def _key(dispatch: Dispatch) -> tuple[str, str | None]:
    return dispatch.id, dispatch.agent_identity


def _is_awaited(dispatch: Dispatch) -> bool:
    """Whether its agent is in the room, and has not answered yet."""
    has_agent = dispatch.state in (State.ACTIVE, State.IDLE) and dispatch.agent_identity is not None
    return has_agent and dispatch.ready_at is None
