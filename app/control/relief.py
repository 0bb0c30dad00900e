"""Relief: takes agents from workers that are emptied, without a moment in which nobody answers."""

import logging
from dataclasses import replace
from enum import StrEnum

from app.control.effects import EffectRunner
from app.control.features import Feature, Features
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.lifecycle import Dispatch, Event, Signal, State
from app.livekit.interface import LiveKit, Probe
from app.state.ownership import names_a_job

logger = logging.getLogger(__name__)


class Relief(StrEnum):
    """What became of an agent whose worker is emptied."""

    ENDED = "ended"  #: nobody was with it; one comes when a person does
    UNDER_WAY = "under_way"  #: another agent takes over
    NO_MEMORY = "no_memory"  #: it goes on: its conversation would begin again
    NO_WORKER = "no_worker"  #: it goes on: no other worker is known that would take it
    OLD_LIVEKIT = "old_livekit"  #: it goes on: the next one would not learn from whom it takes over
    SHARED_IDENTITY = "shared_identity"  #: the next one would have its identity, and put it out
    NO_ANSWER = "no_answer"  #: it does not say that it knows how to hand over
    CHANGED = "changed"  #: it has left, or something has happened to it meanwhile


class Cause(StrEnum):
    """Why a worker is emptied."""

    ORDER = "order"  #: an operator wants it empty
    SIGNAL = "signal"  #: it has got a SIGTERM, and waits for its jobs


class Reliever:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        effects: EffectRunner,
        inspector: RoomInspector,
        features: Features,
    ) -> None:
        self._livekit = livekit
        self._inspector = inspector
        self._store = store
        self._processor = processor
        self._effects = effects
        self._features = features

    async def relieve(self, row_id: str, deployment: str | None, cause: Cause = Cause.ORDER) -> Relief:
        """End the agent if nobody is with it; else have another one take over, in `deployment`.

        `deployment` None: no other worker can take it. A signal ends no idle agent without a memory: whoever
        comes back would have to begin again.

        Raises:
            LiveKitUnavailable, DatabaseUnavailable: nothing has changed.
        """
        row = await self._store.dispatch(row_id)
        if row is None:
            return Relief.CHANGED
        async with self._effects.exclusive(row.room_name, row.agent_name):
            # The webhook of somebody who has come, or left, may be on its way.
            reading = await self._inspector.read_room(row.room_name)
            row = await self._store.dispatch(row_id)
            if row is None or row.state not in (State.ACTIVE, State.IDLE):
                return Relief.CHANGED
            agent = next((one for one in reading.participants if one.identity == row.agent_identity), None)
            is_idle, remembers = row.state is State.IDLE, agent is not None and agent.remembers
            if not remembers and not (is_idle and cause is Cause.ORDER):
                return Relief.NO_MEMORY
            if not is_idle and (obstacle := await self._obstacle(row, deployment)):
                return obstacle
            told = None if deployment is None else replace(row.briefing, deployment=deployment)
            signal = Signal(event=Event.DRAINED, briefing=told)
            outcome = await self._processor.advance(row, signal, row.version)
        self._effects.spawn(outcome.effects)
        if not outcome.applied:
            return Relief.CHANGED
        relief = Relief.ENDED if is_idle else Relief.UNDER_WAY
        logger.info(
            "An agent leaves a worker that is emptied",
            extra={
                "action": "relief",
                "dispatch_id": row.dispatch_id,
                "room": row.room_name,
                "agent": row.agent_name,
                "result": relief,
            },
        )
        return relief

    async def _obstacle(self, row: Dispatch, deployment: str | None) -> Relief | None:
        """Why no other agent can take over; None if one can."""
        if deployment is None:
            return Relief.NO_WORKER
        if Feature.ATTRIBUTES in self._features.missing:
            return Relief.OLD_LIVEKIT
        if not names_a_job(row.agent_identity):
            return Relief.SHARED_IDENTITY
        probe = await self._livekit.probe(row.room_name, row.agent_identity or "")
        return None if probe is Probe.OPEN else Relief.NO_ANSWER
