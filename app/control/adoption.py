"""Adoption: a row for a good agent that another program dispatched."""

from dataclasses import replace

from app.clock import Clock
from app.control.candidates import AssessedCandidate, Inspection
from app.control.processor import ChangeProcessor
from app.control.requests import AgentRequest
from app.database.store import Store
from app.errors import LiveKitUnavailable
from app.lifecycle import Dispatch
from app.state.changes import Intent, Outcome


class Adopter:
    def __init__(self, processor: ChangeProcessor, store: Store, clock: Clock) -> None:
        self._processor = processor
        self._table = store.warm_agents
        self._clock = clock

    async def adopt(self, best: AssessedCandidate, inspection: Inspection, request: AgentRequest) -> Dispatch:
        """Store a row for the agent; if there is a live row by now, that one is returned.

        Raises:
            LiveKitUnavailable: the room was closed, or LiveKit does not list the agent's dispatch.
        """
        listed, agent = best.candidate.listed, best.candidate.agent
        now = self._clock.now()
        if listed is None or inspection.room is None:
            raise LiveKitUnavailable("LiveKit does not list the agent's dispatch; retry")
        dispatch = replace(
            request.intended(inspection.room, now),
            dispatch_id=listed.id,
            dispatched_at=listed.created_at,
            holding_room=listed.holding_room,
            briefing=listed.briefing,
            agent_identity=agent.identity if agent else None,
            agent_joined_at=now if agent else None,
        )
        intent = Intent(dispatch=dispatch, room=inspection.room, generation=inspection.generation)
        row = row_of(await self._processor.submit_one(intent))
        if row.holding_room:
            await self._table.restore(row.agent_name)
        return row


def row_of(outcome: Outcome) -> Dispatch:
    """Raises: LiveKitUnavailable: there is no row, since the room was closed."""
    if outcome.dispatch is None:
        raise LiveKitUnavailable("The room was closed during the request; retry")
    return outcome.dispatch
