"""Tokens with which warm agents come into the rooms of people, like those that LiveKit gives its agents."""

from collections.abc import Callable
from datetime import timedelta

from livekit import api

from app.clock import Clock
from app.config.settings import Keypair
from app.lifecycle import SECOND_US

#: What livekit-agents writes of its agents, and the helper of its dispatch.
_NAME_ATTRIBUTES = ("lk.agent.name", "lk.agent_name")
DISPATCH_ATTRIBUTE = "agent-lifecycle.dispatch"
_WARM_ATTRIBUTE = "agent-lifecycle.warm"

_VALID_FOR_S = 60


class AgentTokens:
    def __init__(self, keypair: Keypair, clock: Clock, livekits_now: Callable[[], int]) -> None:
        self._keypair = keypair
        self._clock = clock
        self._livekits_now = livekits_now

    def issue(self, room_name: str, identity: str, agent_name: str, dispatch_id: str) -> str:
        """A token for the agent's entry now; `identity` is the one that it has in its holding room."""
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
        attributes = dict.fromkeys(_NAME_ATTRIBUTES, agent_name)
        attributes |= {DISPATCH_ATTRIBUTE: dispatch_id, _WARM_ATTRIBUTE: "claimed"}
        return (
            api.AccessToken(self._keypair.key, self._keypair.secret)
            .with_kind("agent")
            .with_identity(identity)
            .with_attributes(attributes)
            .with_grants(grants)
            .with_ttl(timedelta(seconds=_VALID_FOR_S + ahead_s))
            .to_jwt()
        )
