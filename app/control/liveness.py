"""Liveness probes of agents with people: they find a frozen or killed agent long before LiveKit does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from app.clock import Clock
from app.control.agent_readiness import AgentReadiness
from app.control.effects import EffectRunner
from app.control.inspector import SECOND_PROBE_DELAY_S
from app.control.processor import ChangeProcessor
from app.control.reconciler import Reconciler
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Dispatch, Effect, State
from app.livekit.interface import LiveKit, Probe
from app.tasks import BackgroundLoop, repeat

logger = logging.getLogger(__name__)


#: Probes of which the session may be closed all the same.
_MUTE = (Probe.ALIVE, Probe.UNSUPPORTED)
#: Between the two questions to an agent whose worker is late.
_ASKS_AGAIN_S = 0.5
#: Most of them do not answer, and each is waited for.
_SUSPECTS_AT_ONCE = 48


class Liveness:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        effects: EffectRunner,
        reconciler: Reconciler,
        readiness: AgentReadiness,
        clock: Clock,
        *,
        interval_s: float,
        concurrency: int = 16,
    ) -> None:
        """`interval_s` 0: agents are probed only on a request for one."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._effects = effects
        self._reconciler = reconciler
        self._readiness = readiness
        self._clock = clock
        self._interval_s = interval_s
        self._slots = asyncio.Semaphore(concurrency)
        self._suspect_slots = asyncio.Semaphore(_SUSPECTS_AT_ONCE)
        self._loop = BackgroundLoop("liveness")

    def start(self) -> None:
        if self._interval_s:
            self._loop.start(partial(repeat, self._probe_guarded, self._interval_s))

    async def close(self) -> None:
        await self._loop.close()

    async def probe_all(self) -> None:
        """One round: probe every agent with people, and replace those that do not answer.

        An agent without people is probed until it has answered once, and is not replaced.
        """
        async with self._store.exclusive("liveness") as alone:
            if alone:
                to_probe = await self._store.to_probe()
                # There, whoever has the agent's identity would answer in its place.
                vacant = {dispatch.room_name for dispatch in to_probe} & await self._store.vacant_rooms()
                for room_name in vacant:
                    self._reconciler.spawn_inspection(room_name)
                known = [dispatch for dispatch in to_probe if dispatch.room_name not in vacant]
                for dispatch in known:
                    self._readiness.check(dispatch)
                probe = partial(self._probe, answers=self._answers_in_time, slots=self._slots)
                await asyncio.gather(*(probe(one) for one in known if one.state is State.ACTIVE))

    async def probe_suspects(self, dispatches: Sequence[Dispatch]) -> None:
        """Probe the agents of a worker that has not reported in time, and replace those that do not answer.

        Both questions are asked almost at once: the report that did not come was one before them, so such an
        agent has been silent for as long as one that a usual round replaces.
        """
        try:
            vacant = await self._store.vacant_rooms()
        except ServiceError as error:
            logger.warning(
                "Agents could not be probed; the next round retries",
                extra={"action": "liveness", "code": error.code},
            )
            return
        for dispatch in dispatches:
            if dispatch.room_name in vacant:
                self._reconciler.spawn_inspection(dispatch.room_name)
        asked = [one for one in dispatches if one.state is State.ACTIVE and one.room_name not in vacant]
        await asyncio.gather(*(self._probe(one, self._answers_soon, self._suspect_slots) for one in asked))

    async def _probe_guarded(self) -> None:
        try:
            await self.probe_all()
        except ServiceError as error:
            logger.warning(
                "Agents could not be probed; the next round retries",
                extra={"action": "liveness", "code": error.code},
            )
        except Exception:
            logger.exception("Unexpected error in a round of probes", extra={"action": "liveness"})

    async def _probe(
        self, dispatch: Dispatch, answers: Callable[[Dispatch], Awaitable[bool]], slots: asyncio.Semaphore
    ) -> None:
        if dispatch.agent_identity is None:
            return
        async with slots:
            try:
                if await answers(dispatch):
                    return
            except ServiceError:
                # LiveKit is unavailable or the agent has left: an inspection finds out which.
                self._reconciler.spawn_inspection(dispatch.room_name)
                return
        await self._effects.replace_unresponsive(dispatch)

    async def _answers_in_time(self, dispatch: Dispatch) -> bool:
        if await self._answers(dispatch):
            return True
        await asyncio.sleep(SECOND_PROBE_DELAY_S)
        return await self._answers(dispatch)

    async def _answers_soon(self, dispatch: Dispatch) -> bool:
        async def ask_again() -> bool:
            await asyncio.sleep(_ASKS_AGAIN_S)
            return await self._answers(dispatch)

        return any(await asyncio.gather(self._answers(dispatch), ask_again()))

    async def _answers(self, dispatch: Dispatch) -> bool:
        probe = await self._livekit.probe(dispatch.room_name, dispatch.agent_identity or "")
        if probe is Probe.CONNECTING:
            age_us = self._clock.now() - (dispatch.agent_joined_at or 0)
            return age_us < self._processor.policy.terms_of(dispatch).join_timeout_us
        if probe in _MUTE:
            # Such an agent cannot report that its session is closed, and the check at its user's return may
            # have failed: an active dispatch has no deadline that would retry it.
            self._effects.spawn(((Effect.CHECK, dispatch),))
        return probe in (Probe.OPEN, Probe.STARTING) or probe in _MUTE
