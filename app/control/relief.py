"""Relief: takes agents from workers that are emptied, without a moment in which nobody answers."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from app.control.effects import EffectRunner
from app.control.features import Feature, Features
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.lifecycle import Dispatch, Event, Signal, State
from app.livekit.interface import LiveKit, Probe
from app.state.presence import Participant

logger = logging.getLogger(__name__)


class Relief(StrEnum):
    """What became of an agent whose worker is emptied."""

    ENDED = "ended"  #: nobody was with it; one comes when a person does
    UNDER_WAY = "under_way"  #: another agent takes over
    NOT_POSSIBLE = "not_possible"  #: it goes on until its people leave


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

    async def relieve(self, row_id: str, deployment: str | None) -> Relief:
        """End the agent if nobody is with it; else have another one take over, in `deployment`.

        `deployment` None: no other worker can take it.

        Raises:
            LiveKitUnavailable, DatabaseUnavailable: nothing has changed.
        """
        row = await self._store.dispatch(row_id)
        if row is None:
            return Relief.NOT_POSSIBLE
        async with self._effects.exclusive(row.room_name, row.agent_name):
            # The webhook of somebody who has come, or left, may be on its way.
            reading = await self._inspector.read_room(row.room_name)
            row = await self._store.dispatch(row_id)
            if row is None or row.state not in (State.ACTIVE, State.IDLE):
                return Relief.NOT_POSSIBLE
            if row.state is State.ACTIVE and (
                deployment is None or not await self._can_hand_over(row, reading.participants)
            ):
                return Relief.NOT_POSSIBLE
            told = None if deployment is None else replace(row.briefing, deployment=deployment)
            signal = Signal(event=Event.DRAINED, briefing=told)
            outcome = await self._processor.advance(row, signal, row.version)
        self._effects.spawn(outcome.effects)
        if not outcome.applied:
            return Relief.NOT_POSSIBLE
        relief = Relief.ENDED if row.state is State.IDLE else Relief.UNDER_WAY
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

    async def _can_hand_over(self, row: Dispatch, participants: Iterable[Participant]) -> bool:
        """Whether its successor would go on with the conversation, and learn from whom it takes over."""
        agent = next((one for one in participants if one.identity == row.agent_identity), None)
        if Feature.ATTRIBUTES in self._features.missing or agent is None or row.agent_identity is None:
            return False
        return agent.remembers and await self._livekit.probe(row.room_name, row.agent_identity) is Probe.OPEN
