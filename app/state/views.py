"""Read models: what a query of the tables returns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from app.lifecycle import Dispatch
from app.state.presence import TrackedRoom


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    at: int
    event: str
    from_state: str | None
    to_state: str
    people: int


@dataclass(frozen=True, kw_only=True)
class RoomView:
    """The open dispatches of one room, its generation, and its instance."""

    generation: int
    #: None: as far as the tables know, the room does not exist.
    sid: str | None
    dispatches: tuple[Dispatch, ...]

    @classmethod
    def of(cls, room: TrackedRoom | None, dispatches: Iterable[Dispatch]) -> Self:
        """`room`: its last instance; None: none was ever tracked."""
        if room is None:
            return cls(generation=0, sid=None, dispatches=tuple(dispatches))
        sid = None if room.finished_at else room.sid
        return cls(generation=room.generation, sid=sid, dispatches=tuple(dispatches))

    def row(self, row_id: str) -> Dispatch | None:
        """The dispatch of this row; None if it has ended or was never in the room."""
        return next((dispatch for dispatch in self.dispatches if dispatch.id == row_id), None)


@dataclass(frozen=True, kw_only=True)
class KnownRoom:
    """The presence and the open dispatches of one room."""

    name: str
    sid: str
    generation: int
    #: The sids of the people in the room.
    people: frozenset[str]
    #: The identities of the agents in the room.
    agents: frozenset[str]
    #: The dispatches that have not ended.
    rows: tuple[Dispatch, ...]


class Visit(NamedTuple):
    """A person's time in a room."""

    #: A pseudonym; None: no session can be linked to this participant.
    person: str | None
    #: By LiveKit's clock; None: not known.
    joined_at: int | None
    left_at: int | None
    leave_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Company:
    """An agent, and the visits of people since it joined."""

    #: By LiveKit's clock; None: not known.
    agent_joined_at: int | None
    #: Whether a webhook reported its join, so that the visits since then are known too.
    is_announced: bool
    visits: tuple[Visit, ...]


@dataclass(frozen=True, kw_only=True)
class AlertFacts:
    """The facts behind the alerts that the database holds, for all replicas."""

    #: The number of dispatches by state.
    agents: Mapping[str, int]
    #: The dispatches whose removal failed repeatedly.
    stuck: tuple[Dispatch, ...]
    #: The dispatches that people wait for although several attempts brought no agent.
    unserved: tuple[Dispatch, ...]
    #: None: no webhook within the retention.
    last_webhook_at: int | None


class Deadline(NamedTuple):
    row_id: str
    room_name: str
    due_at: int


@dataclass(frozen=True, kw_only=True)
class WarmCounts:
    """An agent's warm ones, as the last round of the pool has found them."""

    agent_name: str
    #: How many are to wait, by the policy.
    wanted: int
    #: How many there are, by state; none that have ended.
    by_state: Mapping[str, int]


class TtlSource(StrEnum):
    FIXED = "fixed"  #: a number in the settings
    DEFAULT = "default"  #: to be learned, but too few returns were seen
    LEARNED = "learned"


@dataclass(frozen=True, kw_only=True)
class AgentTtl:
    """The TTL of an agent's new dispatches; what it has cost and saved in the last days."""

    agent_name: str
    ttl_us: int
    source: TtlSource
    #: The returns within the longest TTL that may be learned; of a fixed TTL, within an hour or that.
    kept: int
    lost: int
    #: How long agents were alone after everybody had left.
    idle_us: int
