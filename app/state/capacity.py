"""Capacity: which calls may have an agent, by the limits of its policy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Cap(StrEnum):
    AGENTS = "max_agents"
    PER_IDENTITY = "max_agents_per_identity"
    WORKERS = "workers"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one agent name; None: no limit."""

    max_agents: int | None = None
    max_agents_per_identity: int | None = None
    #: How many more agents its workers take; see `state.workers.free_slots`.
    free_slots: int | None = None

    @property
    def exist(self) -> bool:
        return self.max_agents is not None or self.max_agents_per_identity is not None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A call that wants a place for the agent of its room."""

    #: That of the dispatch to come.
    id: str
    agent_name: str
    room_name: str
    #: As in `Dispatch`.
    requested_by: str | None
    asked_at: int


class Place(NamedTuple):
    """A room that has an agent, or is about to get one."""

    room_name: str
    requested_by: str | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The result for one claim."""

    #: Why it has to wait; None: it may have a place.
    blocked_by: Cap | None
    #: Among the rooms that wait; 1 is the next.
    position: int


def standings(claims: Iterable[Claim], taken: Iterable[Place], limits: Limits) -> dict[str, Standing]:
    """The standing of each claim: first come, first served.

    A room that has a place needs no other. A claim that only its caller's own limit blocks holds up nobody.
    """
    places = set(taken)
    rooms = {place.room_name for place in places}
    before = len(rooms)
    waiting: list[str] = []
    found: dict[str, Standing] = {}
    for claim in sorted(claims, key=lambda claim: (claim.asked_at, claim.id)):
        blocked_by = _blocked_by(claim, places, rooms, limits, len(rooms) - before)
        ahead = waiting.index(claim.room_name) if claim.room_name in waiting else len(waiting)
        found[claim.id] = Standing(blocked_by=blocked_by, position=ahead + 1)
        if blocked_by is None:
            places.add(Place(claim.room_name, claim.requested_by))
            rooms.add(claim.room_name)
        elif claim.room_name not in waiting:
            waiting.append(claim.room_name)
    return found


def _blocked_by(
    claim: Claim, places: set[Place], rooms: set[str], limits: Limits, granted: int
) -> Cap | None:
    """`granted`: the rooms that have got a place before this one."""
    if claim.room_name in rooms:
        return None
    if limits.free_slots is not None and granted >= limits.free_slots:
        return Cap.WORKERS
    if limits.max_agents is not None and len(rooms) >= limits.max_agents:
        return Cap.AGENTS
    if limits.max_agents_per_identity is None or claim.requested_by is None:
        return None
    own = sum(place.requested_by == claim.requested_by for place in places)
    return Cap.PER_IDENTITY if own >= limits.max_agents_per_identity else None
