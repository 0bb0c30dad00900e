"""The policy: the numbers that the state machine goes by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.lifecycle.model import Dispatch
from app.lifecycle.terms import SECOND_US, Restart, Share, Terms, order_for_room


@dataclass(frozen=True, kw_only=True)
class Policy:
    #: The terms of new dispatches of agents that have none of their own in `agents`.
    default: Terms
    agents: Mapping[str, Terms] = field(default_factory=dict)
    #: The deployments of each agent that has several.
    shares: Mapping[str, Sequence[Share]] = field(default_factory=dict)
    #: Agent names with deployments that fail, and until when others are chosen, as long as there are any.
    failing: Mapping[tuple[str, str], int] = field(default_factory=dict)
    #: False: an agent that died or finished is not restarted, whatever the terms say.
    restarts: bool = True
    #: False: no session has a longest length, whatever the terms say.
    ends_sessions: bool = True
    #: The wait before a failed removal is retried.
    interval_us: int
    #: LiveKit shows a job that a worker took 5 s after the dispatch; this adds a margin.
    job_visible_us: int = 6 * SECOND_US
    #: The first and the longest wait before an unavailable agent is retried while people wait.
    first_wait_us: int = 1 * SECOND_US
    longest_wait_us: int = 10 * SECOND_US
    #: How long a claim or an intent may stay unfinished before any process may retry it.
    lease_us: int = 15 * SECOND_US
    #: How long after a warning without an answer the agent is warned again.
    warn_again_us: int = 5 * SECOND_US
    #: How long a worker that holds the job is waited for, at most; see `holds_until`.
    longest_hold_us: int = 600 * SECOND_US
    max_attempts: int = 3
    max_restarts: int = 3
    restart_window_us: int = 300 * SECOND_US
    #: The agent names whose workers take one job for each publisher, and none in a room without publishers.
    publisher_agents: frozenset[str] = frozenset()
    #: A plain agent that leaves without a word within this time of its join has failed.
    brief_us: int = 10 * SECOND_US
    #: How long after a removal that found people in the room it is tried again.
    healed_wait_us: int = 1 * SECOND_US

    def terms_for(self, agent_name: str, room_name: str) -> Terms:
        """The terms of a new dispatch."""
        terms = self.agents.get(agent_name, self.default)
        shares = self.shares.get(agent_name)
        return replace(terms, deployments=order_for_room(room_name, shares)) if shares else terms

    def terms_of(self, dispatch: Dispatch) -> Terms:
        """Its own, or those of a new dispatch: one that was given a deployment keeps it."""
        if dispatch.terms:
            return dispatch.terms
        terms = self.terms_for(dispatch.agent_name, dispatch.room_name)
        return replace(terms, deployments=None) if dispatch.briefing.deployment else terms

    def restart_of(self, dispatch: Dispatch) -> Restart:
        return self.terms_of(dispatch).restart if self.restarts else Restart.NEVER

    def holds_until(self, dispatch: Dispatch) -> int:
        """How long to wait for the agent of a job that a worker holds: twice as long with each attempt.

        So an agent that starts slowly gets in, and a worker that has frozen does not keep people waiting.
        """
        hold_us = self.terms_of(dispatch).join_timeout_us << min(dispatch.attempt, 16)
        return dispatch.created_at + min(hold_us, self.longest_hold_us)

    def is_failing(self, agent_name: str, deployment: str, now: int) -> bool:
        return self.failing.get((agent_name, deployment), now) > now

    def fails(self, dispatch: Dispatch, now: int) -> bool:
        """Whether its deployment is known to fail."""
        return self.is_failing(dispatch.agent_name, dispatch.briefing.deployment, now)
