"""Candidates: which dispatch, agent and row belong together, and which of them to keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.lifecycle import Dispatch
from app.livekit.interface import ListedDispatch, RoomInfo
from app.state.changes import Outcome
from app.state.ownership import is_not_older
from app.state.presence import Participant


class AgentHealth(StrEnum):
    RESPONSIVE = "responsive"  #: in the room, and proven to answer
    STARTING = "starting"  #: dispatched lately, not in yet
    SESSION_CLOSED = "session_closed"  #: in the room, but its session is closed
    UNRESPONSIVE = "unresponsive"  #: in the room, but its process does not react
    ABSENT = "absent"  #: dispatched, but not in the room: it left, died, or never came
    ENDING = "ending"  #: ended, claimed for removal, or without a dispatch


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A dispatch, its agent, and our row about it, as far as each exists."""

    listed: ListedDispatch | None = None
    agent: Participant | None = None
    row: Dispatch | None = None

    @property
    def name(self) -> str:
        """What it is called in LiveKit."""
        return self.listed.id if self.listed else (self.agent.identity if self.agent else None) or ""

    @property
    def is_stray(self) -> bool:
        """An agent that belongs to no dispatch: its own was deleted before LiveKit had found it a worker."""
        return self.listed is None and self.row is None

    @property
    def is_confused(self) -> bool:
        """LiveKit names another agent of the dispatch than our row: a stray one had come before it."""
        if self.listed is None or self.agent is None or self.row is None or self.row.agent_identity is None:
            return False
        named = self.agent.identity in self.listed.agent_identities
        return named and self.row.agent_identity != self.agent.identity

    @property
    def since(self) -> int:
        """By LiveKit's clock."""
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
    #: Our live row of that name; LiveKit may list its dispatch or not.
    row: Dispatch | None

    def best(self) -> AssessedCandidate | None:
        """The one to keep: one that answers before one that starts, ours before others, then the newest."""
        good = [j for j in self.assessed if j.health in (AgentHealth.RESPONSIVE, AgentHealth.STARTING)]

        def rank(assessed: AssessedCandidate) -> tuple[bool, bool, int]:
            ours = assessed.candidate.row is not None
            return assessed.health is AgentHealth.RESPONSIVE, ours, assessed.candidate.since

        return max(good, key=rank, default=None)

    def of_row(self, row: Dispatch) -> AssessedCandidate | None:
        """What LiveKit has for the row; None when it lists no such dispatch."""
        found = (j for j in self.assessed if j.candidate.row and j.candidate.row.id == row.id)
        return next((j for j in found if j.candidate.listed), None)


@dataclass(frozen=True, kw_only=True)
class RoomReading:
    """One reading of a room in LiveKit, committed as far as it is about presence."""

    room: RoomInfo | None
    listed: tuple[ListedDispatch, ...]
    participants: tuple[Participant, ...]
    rows: tuple[Dispatch, ...]
    outcome: Outcome
    #: A row's dispatch was made, or its agent came, after LiveKit was asked: not to be listed says nothing.
    is_stale: bool


def named_in_livekit(rows: Iterable[Dispatch]) -> set[str | None]:
    """The dispatches and agents that rows are about, by their names in LiveKit."""
    names = {row.dispatch_id for row in rows} | {row.agent_identity for row in rows}
    return names - {None}


def pair(
    listed: Sequence[ListedDispatch], agents: Iterable[Participant], rows: Sequence[Dispatch]
) -> list[Candidate]:
    """Which agent belongs to which dispatch, and to which row of ours; newest dispatch first.

    LiveKit names the agent of a dispatch only after 5 s; until then our row does, and failing that the
    agent is taken for the newest dispatch that is older than it and has none.
    """
    by_dispatch_id = {row.dispatch_id: row for row in rows if row.dispatch_id}
    # Ours, but LiveKit's answer was lost. A second one with the id of the same row is nobody's.
    by_row_id = {row.id: row for row in rows if row.dispatch_id is None}
    by_identity = {row.agent_identity: row for row in rows if row.agent_identity}
    free = {agent.identity: agent for agent in agents if agent.identity}
    named = {identity: dispatch.id for dispatch in listed for identity in dispatch.agent_identities}
    candidates = []
    for dispatch in sorted(listed, key=lambda dispatch: dispatch.created_at, reverse=True):
        row = by_dispatch_id.get(dispatch.id) or by_row_id.pop(dispatch.row_id or "", None)
        known = (*dispatch.agent_identities, row.agent_identity if row else None)
        # Our row may have taken another dispatch's agent for its own, before LiveKit said whose it is.
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
