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

    async def last(self, room_name: str, agent_name: str) -> str | None:
        """The identity of the last one in a room of this name."""
        return next(iter(await self._newest(1, room_name, agent_name)), None)

    async def has(self, agent: Participant, room_name: str) -> bool:
        """Whether the agent is certainly one; where a worker names its agents, the next may have the name."""
        if not names_a_job(agent.identity):
            return False
        return agent.identity in await self._newest(_MOST, room_name, agent.agent_name)

    async def _newest(self, limit: int, room_name: str, agent_name: str | None) -> list[str | None]:
        """Their identities, newest first; None for a dispatch that had no agent."""
        ended = await self._store.list_dispatches(
            [State.ENDED], None, limit, room_name=room_name, agent_name=agent_name
        )
        return [row.agent_identity for row in ended]
