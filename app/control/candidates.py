"""Candidates: which dispatch, agent and row belong together, and which candidate to keep."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from app.lifecycle import SECOND_US, UNTOLD, Briefing, Dispatch, Event, State
from app.livekit.interface import ListedDispatch, RoomInfo
from app.state.changes import Outcome
from app.state.ownership import avatars_of, is_former, is_not_older
from app.state.presence import Participant, ParticipantKind

#: LiveKit shows the job of a dispatch after 5 s.
_JOB_SHOWN_US = 6 * SECOND_US


class AgentHealth(StrEnum):
    RESPONSIVE = "responsive"  #: in the room, and it answers
    UNTESTED = "untested"  #: in the room, and nobody is in whom it could answer
    STARTING = "starting"  #: dispatched recently, not in the room yet
    SESSION_CLOSED = "session_closed"  #: in the room, but its session is closed
    UNRESPONSIVE = "unresponsive"  #: in the room, but its process does not respond
    ABSENT = "absent"  #: dispatched, but not in the room: it left, died, or never joined
    ENDING = "ending"  #: ended, claimed for removal, or without a dispatch

    @property
    def is_broken(self) -> bool:
        """Whether the agent is in the room but cannot answer people."""
        return self in (AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE)


_GOOD = (AgentHealth.RESPONSIVE, AgentHealth.UNTESTED, AgentHealth.STARTING)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A dispatch in LiveKit, its agent, and its row, as far as each exists."""

    listed: ListedDispatch | None = None
    agent: Participant | None = None
    row: Dispatch | None = None
    #: Further agents of the same dispatch: a worker of type PUBLISHER has one for each publisher.
    companions: tuple[Participant, ...] = ()
    #: The identities of avatars of its agents.
    avatars: tuple[str, ...] = ()

    @property
    def identities(self) -> list[str]:
        """Of all that is in the room for it."""
        agents = (self.agent, *self.companions) if self.agent else ()
        return [*(agent.identity for agent in agents if agent.identity), *self.avatars]

    @property
    def name(self) -> str:
        """The id of its dispatch in LiveKit, else the identity of its agent."""
        return self.listed.id if self.listed else (self.agent.identity if self.agent else None) or ""

    @property
    def briefing(self) -> Briefing:
        """What its agent was told."""
        told = self.row or self.listed
        return told.briefing if told else UNTOLD

    @property
    def is_stray(self) -> bool:
        """An agent without a dispatch: it was deleted before LiveKit had assigned a worker."""
        return self.listed is None and self.row is None

    def hides_its_agent(self, livekits_now: int) -> bool:
        """Whether the dispatch is so new that LiveKit may not show its agent yet."""
        if self.listed is None or self.listed.agent_identities:
            return False
        return livekits_now - self.listed.created_at < _JOB_SHOWN_US

    @property
    def is_mismatched(self) -> bool:
        """Whether the row names another agent than it has: a stray one joined first and got into the row."""
        if self.listed is None or self.agent is None or self.row is None or self.row.agent_identity is None:
            return False
        return self.row.agent_identity != self.agent.identity

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

    @property
    def is_anothers(self) -> bool:
        """Whether another service dispatched it; or this one, before it lost its database."""
        candidate = self.candidate
        is_marked = candidate.listed is not None and candidate.listed.row_id is not None
        # Its own that has ended may be listed for a while.
        return is_marked and candidate.row is None and self.health is not AgentHealth.ENDING


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All candidates of one agent name in one room. `room` None: the room does not exist."""

    room: RoomInfo | None
    #: The room's in the tables, after the reading.
    generation: int
    people: int
    assessed: tuple[AssessedCandidate, ...]
    #: The live row of that name; LiveKit may list its dispatch or not.
    row: Dispatch | None
    #: Another service has dispatched an agent too, and LiveKit does not say yet whose agent is whose. To
    #: decide now might end the wrong one, and the other service decides as well.
    is_undecided: bool = False

    @property
    def is_on_hold(self) -> bool:
        """Whether the room is to have no agent of that name."""
        return self.row is not None and self.row.state is State.ON_HOLD

    def own(self) -> AssessedCandidate | None:
        """The candidate of the live row, if it is good."""
        row_id = self.row.id if self.row else None
        found = (one for one in self.assessed if one.candidate.row and one.candidate.row.id == row_id)
        return next((one for one in found if one.health in _GOOD), None)

    def best(self) -> AssessedCandidate | None:
        """The one to keep: present before starting, with a row before without, then the newest.

        Beside one of another service it is the oldest: that service finds the same, and neither undoes what
        the other does.
        """
        good = [one for one in self.assessed if one.health in _GOOD]
        is_shared = any(one.is_anothers for one in good)

        def rank(assessed: AssessedCandidate) -> tuple[bool, bool, int]:
            has_row = assessed.candidate.row is not None
            if is_shared:
                return assessed.health is not AgentHealth.STARTING, False, -assessed.candidate.since
            return assessed.health is not AgentHealth.STARTING, has_row, assessed.candidate.since

        return max(good, key=rank, default=None)

    def expected_agent(self) -> str | None:
        """Whom a worker has the job of the row for, if it is not in the room."""
        for assessed in self.assessed:
            candidate = assessed.candidate
            if candidate.row and self.row and candidate.row.id == self.row.id and not candidate.agent:
                return next(iter(candidate.listed.agent_identities), None) if candidate.listed else None
        return None

    def health_of(self, row: Dispatch) -> AgentHealth | None:
        """The health of the row's agent; None if LiveKit does not list the row's dispatch."""
        found = (one for one in self.assessed if one.candidate.row and one.candidate.row.id == row.id)
        return next((one.health for one in found if one.candidate.listed), None)


def event_of_loss(row: Dispatch, inspection: Inspection) -> Event:
    """The event for a live row whose agent cannot be reused."""
    health = inspection.health_of(row)
    if health is None:
        return Event.MISSING
    if health.is_broken:
        return Event.REFUTED
    return Event.JOIN_OVERDUE if row.state is State.STARTING else Event.AGENT_LOST


@dataclass(frozen=True, kw_only=True)
class RoomLists:
    """What LiveKit lists of one room."""

    dispatches: tuple[ListedDispatch, ...] = ()
    participants: tuple[Participant, ...] = ()
    #: The dispatches of its agents that are in holding rooms.
    held: tuple[ListedDispatch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RoomReading:
    """One reading of a room in LiveKit; its presence is committed."""

    room: RoomInfo | None
    #: Also those of its agents that are in holding rooms.
    listed: tuple[ListedDispatch, ...]
    #: These alone.
    held: tuple[ListedDispatch, ...] = ()
    participants: tuple[Participant, ...]
    rows: tuple[Dispatch, ...]
    #: The room's in the tables, after the reading.
    generation: int
    outcome: Outcome
    #: The room changed after LiveKit was asked: another instance began, or a row got its dispatch or agent,
    #: which LiveKit's lists may lack.
    is_stale: bool

    def expected_agent(self, row: Dispatch) -> str | None:
        """Whom a worker has the row's job for; None: no worker has it, or LiveKit does not list it yet."""
        listed = next((one for one in self.listed if one.id == row.dispatch_id), None)
        return next(iter(listed.agent_identities), None) if listed else None

    @property
    def people(self) -> int:
        return sum(participant.kind is ParticipantKind.PERSON for participant in self.participants)


def named_in_livekit(rows: Iterable[Dispatch]) -> set[str | None]:
    """The ids of dispatches, the identities of agents and the holding rooms in these rows."""
    names = {name for row in rows for name in (row.dispatch_id, row.agent_identity, row.holding_room)}
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
    # One of a row on hold came too late: it gets none either.
    unanswered = (row for row in rows if row.dispatch_id is None and row.state is not State.ON_HOLD)
    by_row_id = {row.id: row for row in unanswered}
    by_identity = {row.agent_identity: row for row in rows if row.agent_identity}
    free = {agent.identity: agent for agent in agents if agent.identity}
    present = set(free)
    named = {identity: dispatch.id for dispatch in listed for identity in dispatch.agent_identities}
    candidates = []
    for dispatch in sorted(listed, key=lambda dispatch: dispatch.created_at, reverse=True):
        row = by_dispatch_id.get(dispatch.id) or by_row_id.pop(dispatch.row_id or "", None)
        of_row = row.agent_identity if row else None
        # Of several agents of the dispatch, the row's is the agent and the others are its companions.
        known = (*sorted(dispatch.agent_identities, key=lambda identity: identity != of_row), of_row)
        # The row may have another dispatch's agent, from before LiveKit named its owner.
        own = (one for one in known if one in free and named.get(one, dispatch.id) == dispatch.id)
        identity = next(own, None)
        agent = free.pop(identity) if identity else None
        candidates.append(Candidate(listed=dispatch, agent=agent, row=row))
    candidates = [_with_companions(candidate, free) for candidate in candidates]
    for agent in sorted(free.values(), key=lambda agent: agent.joined_at or 0):
        at = next((i for i, candidate in enumerate(candidates) if _fits(candidate, agent, present)), None)
        if at is None:
            candidates.append(Candidate(agent=agent, row=by_identity.get(agent.identity or "")))
        else:
            candidates[at] = replace(candidates[at], agent=agent)
    return candidates


def _with_companions(candidate: Candidate, free: dict[str, Participant]) -> Candidate:
    """The candidate with all agents of its dispatch; they are taken out of `free`."""
    if candidate.listed is None or candidate.agent is None:
        return candidate
    further = (free.pop(identity) for identity in candidate.listed.agent_identities if identity in free)
    return replace(candidate, companions=tuple(further))


def with_avatars(candidates: Iterable[Candidate], participants: Sequence[Participant]) -> list[Candidate]:
    return [
        replace(candidate, avatars=tuple(avatars_of(candidate.identities, participants)))
        for candidate in candidates
    ]


def _fits(candidate: Candidate, agent: Participant, present: Collection[str]) -> bool:
    listed = candidate.listed
    if listed is None or candidate.agent or listed.agent_identities:
        return False
    if candidate.row and is_former(agent, candidate.row):
        return False
    if candidate.row and candidate.row.agent_identity:
        # The row's agent has left. If it was not the row's at all, the true one came as soon as that.
        is_prompt = (agent.joined_at or 0) < listed.created_at + _JOB_SHOWN_US
        if candidate.row.agent_identity in present or not is_prompt:
            return False
    return is_not_older(agent, listed.created_at)
