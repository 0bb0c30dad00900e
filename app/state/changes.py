"""The changes that can be committed, and the outcome of each."""

from enum import StrEnum

import msgspec

from app.lifecycle import Dispatch, Effect, Event, Signal
from app.lifecycle.returns import Return
from app.state.presence import Participant, Room
from app.state.views import RoomView


class RoomEventKind(StrEnum):
    JOINED = "joined"
    LEFT = "left"
    STARTED = "started"
    FINISHED = "finished"


class RoomEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, reduced to the presence that it reports."""

    #: LiveKit's time and id of the webhook; a repetition has the same of both.
    event_id: str
    kind: RoomEventKind
    room: Room
    participant: Participant | None = None
    #: LiveKit's disconnect reason by name, for LEFT.
    reason: str | None = None
    #: By LiveKit's clock, in whole seconds; None: not reported.
    sent_at: int | None = None

    @property
    def room_name(self) -> str:
        return self.room.name


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The participants that LiveKit lists for a room, read after the room's generation.

    `room` None: the room does not exist. Whatever changed after `generation` is newer than the snapshot.
    """

    room_name: str
    room: Room | None
    participants: tuple[Participant, ...] = ()
    generation: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A new dispatch; ignored if the room already has a live dispatch of that agent name."""

    dispatch: Dispatch
    #: As LiveKit has just reported it, after the room's generation.
    room: Room
    generation: int
    #: The claim that it uses up; None: its agent has no limits.
    claim: str | None = None

    @property
    def room_name(self) -> str:
        return self.room.name


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """A signal for one dispatch, applied only if the dispatch is still at `version` (None: at any)."""

    room_name: str
    row_id: str
    signal: Signal
    version: int | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A fired timer, or a row found by the sweep: apply the deadline that has passed."""

    room_name: str
    row_id: str
    #: The events that the mode suppresses.
    withhold: frozenset[Event] = frozenset()
    #: The agent whose job a worker has, of a dispatch that has waited for it too long.
    agent_identity: str | None = None


Change = RoomEvent | Snapshot | Intent | Advance | Due


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a dispatch's history."""

    before: Dispatch | None
    after: Dispatch
    event: str


#: The effects to carry out, in order; each with the dispatch as it stood at the decision.
Effects = tuple[tuple[Effect, Dispatch], ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one change."""

    #: The current dispatch of an Intent or Advance; None if it had already ended.
    dispatch: Dispatch | None = None
    #: False if the change was stale, a repetition, or an Intent that found a live dispatch.
    applied: bool = True
    transitions: tuple[Transition, ...] = ()
    effects: Effects = ()
    #: The people who came back.
    returns: tuple[Return, ...] = ()
    #: The event of a Due that the mode suppressed.
    withheld: Event | None = None
    #: Only LiveKit can say whose an agent is, or whether it is in.
    stranger: bool = False
    #: An event contradicts what is known of a room: only LiveKit can say which instance exists.
    disputed: bool = False
    #: For an Intent: its claim has expired, so that another may have the place.
    has_lost_claim: bool = False
    #: For a Snapshot: the sids of listed agents and avatars whose leave LiveKit has reported.
    departed: frozenset[str] = frozenset()
    #: For a Snapshot: the number of differences from LiveKit, by kind.
    drift: dict[str, int] = {}
    #: For a Snapshot: its room after it, applied or not; None for other changes.
    view: RoomView | None = None
