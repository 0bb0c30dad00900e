"""Former agents: those of ended dispatches. After an outage of LiveKit they connect anew."""

from app.database.store import Store
from app.lifecycle import State
from app.state.ownership import names_a_job
from app.state.presence import Participant

#: How many of the dispatches before may still have an agent.
_MOST = 10


class FormerAgents:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def has(self, agent: Participant, room_name: str) -> bool:
        """Whether the agent is certainly one; where a worker names its agents, the next may have the name."""
        if not names_a_job(agent.identity):
            return False
        ended = await self._store.list_dispatches(
            [State.ENDED], None, _MOST, room_name=room_name, agent_name=agent.agent_name
        )
        return agent.identity in {row.agent_identity for row in ended}
