"""The policies of all agents as they are now: a reload, and what is learned, change them."""

from collections.abc import Mapping
from dataclasses import replace

from app.config.agents import AgentPolicy, room_timeout_s
from app.lifecycle import Policy


class Policies:
    """Read by whoever decides; what a dispatch was made with stays in its row."""

    def __init__(self, agents: Mapping[str, AgentPolicy], lifecycle: Policy) -> None:
        """`lifecycle`: with everything that does not depend on the agent."""
        self._agents = dict(agents)
        self._learned_ttl_us: dict[str, int] = {}
        #: Deployments that fail and those that are drained, and until when others are chosen.
        self._failing: Mapping[tuple[str, str], int] = {}
        self._closed: Mapping[str, int] = {}
        self._lifecycle = lifecycle
        self._rebuild()

    def of(self, agent_name: str) -> AgentPolicy:
        return self._agents[agent_name]

    @property
    def agents(self) -> Mapping[str, AgentPolicy]:
        return self._agents

    @property
    def lifecycle(self) -> Policy:
        """For the state machine."""
        return self._lifecycle

    @property
    def room_timeout_s(self) -> int:
        return room_timeout_s(self._agents.values())

    def replace(self, agents: Mapping[str, AgentPolicy]) -> None:
        """Take the policies of a file that was read again."""
        self._agents = dict(agents)
        self._rebuild()

    def learn(self, ttls_us: Mapping[str, int]) -> None:
        """Take the TTLs that were learned, by agent name."""
        self._learned_ttl_us = dict(ttls_us)
        self._rebuild()

    def avoid(self, failing: Mapping[tuple[str, str], int]) -> None:
        """Take the agent names with deployments that fail, and until when others are chosen."""
        self._failing = dict(failing)
        self._pass_over()

    def close_deployments(self, until: Mapping[str, int]) -> None:
        """Take the deployments that take no more agents, and until when others are chosen."""
        if until or self._closed:
            self._closed = dict(until)
            self._pass_over()

    def _pass_over(self) -> None:
        closed = {
            (name, share.deployment): self._closed[share.deployment]
            for name, shares in self._lifecycle.shares.items()
            for share in shares
            if share.deployment in self._closed
        }
        self._lifecycle = replace(self._lifecycle, failing={**self._failing, **closed})

    def _rebuild(self) -> None:
        self._lifecycle = replace(
            self._lifecycle,
            agents={name: one.terms(self._learned_ttl_us.get(name)) for name, one in self._agents.items()},
            shares={name: one.deployment for name, one in self._agents.items() if one.deployment},
        )
