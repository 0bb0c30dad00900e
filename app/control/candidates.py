"""Candidates: which dispatch, agent and row belong together, and which candidate to keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.lifecycle import Dispatch
from app.livekit.interface import ListedDispatch, RoomInfo
from app.state.changes import Outcome
from app.state.ownership import is_not_older
from app.state.presence import Participant


class AgentHealth(StrEnum):
    RESPONSIVE = "responsive"  #: in the room, and it answers
    STARTING = "starting"  #: dispatched recently, not in the room yet
    SESSION_CLOSED = "session_closed"  #: in the room, but its session is closed
    UNRESPONSIVE = "unresponsive"  #: in the room, but its process does not respond
    ABSENT = "absent"  #: dispatched, but not in the room: it left, died, or never joined
    ENDING = "ending"  #: ended, claimed for removal, or without a dispatch

    @property
    def is_broken(self) -> bool:
        """Whether the agent is in the room but cannot answer people."""
        return self in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A dispatch in LiveKit, its agent, and its row, as far as each exists."""

    listed: ListedDispatch | None = None
    agent: Participant | None = None
    row: Dispatch | None = None

    @property
    def name(self) -> str:
        """The id of its dispatch in LiveKit, else the identity of its agent."""
        return self.listed.id if self.listed else (self.agent.identity if self.agent else None) or ""

    @property
    def is_stray(self) -> bool:
        """An agent without a dispatch: it was deleted before LiveKit had assigned a worker."""
        return self.listed is None and self.row is None

    @property
    def is_mismatched(self) -> bool:
        """Whether row and LiveKit name different agents: a stray agent joined first and got into the row."""
        if self.listed is None or self.agent is None or self.row is None or self.row.agent_identity is None:
            return False
        named = self.agent.identity in self.listed.agent_identities
        return named and self.row.agent_identity != self.agent.identity

    @property
    def since(self) -> int:
        """When it was dispatched, else when its agent joined, by LiveKit's clock."""
        if self.listed:
            return self.listed.created_at
        return (self.agent.joined_at if self.agent else None) or 0


@dataclass(frozen=True, kw_only=True)
class AssessedCandidate:
    candidate: Candidate
    health: AgentHealth


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All candidates of one agent name in one room. `room` None: the room does not exist."""

    room: RoomInfo | None
    people: int
    assessed: tuple[AssessedCandidate, ...]
    #: The live row of that name; LiveKit may list its dispatch or not.
    row: Dispatch | None

    def best(self) -> AssessedCandidate | None:
        """The one to keep: responsive before starting, with a row before without, then the newest."""
        good = [one for one in self.assessed if one.health in (AgentHealth.RESPONSIVE, AgentHealth.STARTING)]

        def rank(assessed: AssessedCandidate) -> tuple[bool, bool, int]:
            has_row = assessed.candidate.row is not None
            return assessed.health is AgentHealth.RESPONSIVE, has_row, assessed.candidate.since

        return max(good, key=rank, default=None)

    def health_of(self, row: Dispatch) -> AgentHealth | None:
        """The health of the row's agent; None if LiveKit does not list the row's dispatch."""
        found = (one for one in self.assessed if one.candidate.row and one.candidate.row.id == row.id)
        return next((one.health for one in found if one.candidate.listed), None)


@dataclass(frozen=True, kw_only=True)
class RoomReading:
    """One reading of a room in LiveKit; its presence is committed."""

    room: RoomInfo | None
    listed: tuple[ListedDispatch, ...]
    participants: tuple[Participant, ...]
    rows: tuple[Dispatch, ...]
    outcome: Outcome
    #: A row got its dispatch or agent after LiveKit was asked, so that LiveKit's lists may lack it.
    is_stale: bool


def named_in_livekit(rows: Iterable[Dispatch]) -> set[str | None]:
    """The ids of dispatches and the identities of agents in these rows."""
    names = {row.dispatch_id for row in rows} | {row.agent_identity for row in rows}
    return names - {None}


def pair(
    listed: Sequence[ListedDispatch], agents: Iterable[Participant], rows: Sequence[Dispatch]
) -> list[Candidate]:
    """Match dispatches, agents and rows; newest dispatch first.

    LiveKit names the agent of a dispatch only after 5 s. Until then the row decides; without a row, the agent
    gets the newest dispatch that is older than the agent and has none.
    """
    by_dispatch_id = {row.dispatch_id: row for row in rows if row.dispatch_id}
    # LiveKit's answer to these was lost. A second dispatch with the same row id gets no row.
    by_row_id = {row.id: row for row in rows if row.dispatch_id is None}
    by_identity = {row.agent_identity: row for row in rows if row.agent_identity}
    free = {agent.identity: agent for agent in agents if agent.identity}
    named = {identity: dispatch.id for dispatch in listed for identity in dispatch.agent_identities}
    candidates = []
    for dispatch in sorted(listed, key=lambda dispatch: dispatch.created_at, reverse=True):
        row = by_dispatch_id.get(dispatch.id) or by_row_id.pop(dispatch.row_id or "", None)
        known = (*dispatch.agent_identities, row.agent_identity if row else None)
        # The row may have another dispatch's agent, from before LiveKit named its owner.
        own = (one for one in known if one in free and named.get(one, dispatch.id) == dispatch.id)
        identity = next(own, None)
        agent = free.pop(identity) if identity else None
        candidates.append(Candidate(listed=dispatch, agent=agent, row=row))
    for agent in sorted(free.values(), key=lambda agent: agent.joined_at or 0):
        at = next((i for i, candidate in enumerate(candidates) if _fits(candidate, agent)), None)
        if at is None:
            candidates.append(Candidate(agent=agent, row=by_identity.get(agent.identity or "")))
        else:
            candidates[at] = Candidate(listed=candidates[at].listed, agent=agent, row=candidates[at].row)
    return candidates


def _fits(candidate: Candidate, agent: Participant) -> bool:
    listed = candidate.listed
    if listed is None or candidate.agent or listed.agent_identities:
        return False
    if candidate.row and candidate.row.agent_identity:
        return False
    return is_not_older(agent, listed.created_at)
