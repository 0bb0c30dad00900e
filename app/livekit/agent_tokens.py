"""Tokens with which warm agents come into the rooms of people, like those that LiveKit gives its agents."""

from collections.abc import Callable
from datetime import timedelta

from livekit import api

from app.clock import Clock
from app.config.settings import Keypair
from app.lifecycle import SECOND_US
from app.lifecycle.warm import WarmAgent
from app.livekit.interface import CLAIMED, HOLDING_ROOM_ATTRIBUTE

#: What livekit-agents writes of its agents, and the helper of its dispatch.
_NAME_ATTRIBUTES = ("lk.agent.name", "lk.agent_name")
DISPATCH_ATTRIBUTE = "agent-lifecycle.dispatch"

_VALID_FOR_S = 60


class AgentTokens:
    def __init__(self, keypair: Keypair, clock: Clock, livekits_now: Callable[[], int]) -> None:
        self._keypair = keypair
        self._clock = clock
        self._livekits_now = livekits_now

    def issue(self, room_name: str, agent: WarmAgent) -> str:
        """A token with which this agent enters the room now, as who it is in its holding room."""
        # Where LiveKit's clock is ahead, the token would be over before it came.
        ahead_s = max(0, self._livekits_now() - self._clock.now()) // SECOND_US
        grants = api.VideoGrants(
            room_join=True,
            room=room_name,
            agent=True,
            can_publish=True,
            can_subscribe=True,
            can_publish_data=True,
            can_update_own_metadata=True,
        )
        attributes = dict.fromkeys(_NAME_ATTRIBUTES, agent.agent_name)
        attributes |= CLAIMED | {
            DISPATCH_ATTRIBUTE: agent.dispatch_id or "",
            HOLDING_ROOM_ATTRIBUTE: agent.room_name,
        }
        return (
            api.AccessToken(self._keypair.key, self._keypair.secret)
            .with_kind("agent")
            .with_identity(agent.agent_identity or "")
            .with_attributes(attributes)
            .with_grants(grants)
            .with_ttl(timedelta(seconds=_VALID_FOR_S + ahead_s))
            .to_jwt()
        )
