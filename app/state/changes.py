"""What can be committed: the facts and intents that the writer takes, and what comes of each."""

from enum import StrEnum

import msgspec

from app.lifecycle import Dispatch, Effect, Event, Signal
from app.state.presence import Participant, Room


class RoomEventKind(StrEnum):
    JOINED = "joined"
    LEFT = "left"
    STARTED = "started"
    FINISHED = "finished"


class RoomEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, reduced to what it says about who is in."""

    #: LiveKit's id of it, behind its time: a repetition has the same of both.
    event_id: str
    kind: RoomEventKind
    room: Room
    participant: Participant | None = None
    #: LiveKit's disconnect reason by name, for LEFT.
    reason: str | None = None

    @property
    def room_name(self) -> str:
        return self.room.name


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Who LiveKit says is in a room, asked after its generation was read.

    `room` None: the room does not exist. What changed after `generation` is newer than this.
    """

    room_name: str
    room: Room | None
    participants: tuple[Participant, ...] = ()
    generation: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A dispatch that does not exist yet; where a live one does, that one stands."""

    dispatch: Dispatch
    room: Room

    @property
    def room_name(self) -> str:
        return self.room.name


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """A signal for one dispatch, taken only if it is still at `version` (None: at any)."""

    room_name: str
    row_id: str
    signal: Signal
    version: int | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A timer has fired, or the sweep has found the row: whichever deadline has passed is acted on."""

    room_name: str
    row_id: str
    #: What the mode does not let happen.
    withhold: frozenset[Event] = frozenset()


Change = RoomEvent | Snapshot | Intent | Advance | Due


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a dispatch's history."""

    before: Dispatch | None
    after: Dispatch
    event: str


#: What has to be done about dispatches, in order; each dispatch as it stood when that was decided.
Effects = tuple[tuple[Effect, Dispatch], ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change."""

    #: The dispatch that an Intent or Advance was about, as it stands now; None when it has ended before.
    dispatch: Dispatch | None = None
    #: False when the change was stale, a repetition, or an Intent that found a live dispatch.
    applied: bool = True
    transitions: tuple[Transition, ...] = ()
    effects: Effects = ()
    #: What a Due would have done, had it not been withheld.
    withheld: Event | None = None
    #: An agent came that no dispatch of ours waited for.
    stranger: bool = False
    #: What differed from LiveKit's truth, by kind, for a Snapshot.
    drift: dict[str, int] = {}
