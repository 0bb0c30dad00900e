"""What the tables say, read at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.lifecycle import Dispatch


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    at: int
    event: str
    from_state: str | None
    to_state: str
    people: int


@dataclass(frozen=True, kw_only=True)
class RoomView:
    """What the tables know of one room before LiveKit is asked."""

    generation: int
    dispatches: tuple[Dispatch, ...]

    def row(self, row_id: str) -> Dispatch | None:
        """The dispatch of this row; None when it has ended, or never was one of the room's."""
        return next((dispatch for dispatch in self.dispatches if dispatch.id == row_id), None)


@dataclass(frozen=True, kw_only=True)
class KnownRoom:
    """One room as the tables have it."""

    name: str
    sid: str
    generation: int
    #: The sids of who is in.
    people: frozenset[str]
    #: The identities of the agents that are in.
    agents: frozenset[str]
    #: The dispatches that have not ended.
    rows: tuple[Dispatch, ...]


@dataclass(frozen=True, kw_only=True)
class AlertFacts:
    """What the database says at one moment, which is true of all replicas."""

    #: Dispatches by state.
    agents: Mapping[str, int]
    #: Those whose removal has failed again and again.
    stuck: tuple[Dispatch, ...]
    #: Those that people wait for, though several dispatches have brought no agent.
    unserved: tuple[Dispatch, ...]
    #: None: none within the retention.
    last_webhook_at: int | None


class Deadline(NamedTuple):
    row_id: str
    room_name: str
    due_at: int
