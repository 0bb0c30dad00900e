"""The liveness probe of agents with people in: it notices a frozen or killed one long before LiveKit does."""

import asyncio
import logging

from app.clock import Clock
from app.control.effects import EffectRunner
from app.control.inspector import SECOND_LOOK_S
from app.control.processor import ChangeProcessor
from app.control.reconciler import Reconciler
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Dispatch, Effect, State
from app.livekit.interface import LiveKit, Probe
from app.tasks import BackgroundLoop, repeat

logger = logging.getLogger(__name__)


class Liveness:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        effects: EffectRunner,
        reconciler: Reconciler,
        clock: Clock,
        *,
        interval_s: float,
        concurrency: int = 16,
    ) -> None:
        """`interval_s` 0: agents are not probed but when somebody asks for one."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._effects = effects
        self._reconciler = reconciler
        self._clock = clock
        self._interval_s = interval_s
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = BackgroundLoop("liveness")

    def start(self) -> None:
        if self._interval_s:
            self._loop.start(repeat(self._probe_guarded, self._interval_s))

    async def close(self) -> None:
        await self._loop.close()

    async def probe_all(self) -> None:
        """One round: ask every agent that has people in, and replace those that do not answer."""
        async with self._store.exclusive("liveness") as alone:
            if alone:
                active = await self._store.in_state(State.ACTIVE)
                await asyncio.gather(*(self._look_after(dispatch) for dispatch in active))

    async def _probe_guarded(self) -> None:
        try:
            await self.probe_all()
        except ServiceError as error:
            logger.warning(
                "The agents could not be probed; the next round retries it",
                extra={"action": "liveness", "code": error.code},
            )
        except Exception:
            logger.exception("Unexpected error in a round of probes", extra={"action": "liveness"})

    async def _look_after(self, dispatch: Dispatch) -> None:
        if dispatch.agent_identity is None:
            return
        async with self._slots:
            try:
                if await self._answers(dispatch):
                    return
                await asyncio.sleep(SECOND_LOOK_S)
                if await self._answers(dispatch):
                    return
            except ServiceError:
                # LiveKit is away, or the agent is: the room will tell.
                self._reconciler.spawn_inspection(dispatch.room_name)
                return
        await self._effects.refute(dispatch)

    async def _answers(self, dispatch: Dispatch) -> bool:
        probe = await self._livekit.probe(dispatch.room_name, dispatch.agent_identity or "")
        if probe is Probe.CONNECTING:
            age_us = self._clock.now() - (dispatch.agent_joined_at or 0)
            return age_us < self._processor.join_timeout_us
        if probe is Probe.ALIVE:
            # It cannot say that its session is closed, and the look that its user's return entailed may have
            # come to nothing: an active dispatch has no deadline that would order another.
            self._effects.spawn(((Effect.CHECK, dispatch),))
        return probe in (Probe.OPEN, Probe.ALIVE)
