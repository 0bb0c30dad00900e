"""Events for other programs: what is stored of an announcement, and the form in which it is sent."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from app.clock import Time, to_iso
from app.lifecycle import Dispatch
from app.lifecycle.announcements import announcements
from app.state.changes import Transition


class EventData(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The dispatch as it was then; neither names of people nor metadata."""

    #: Grows by one with each event.
    position: int = 0
    room_name: str
    #: LiveKit's id of the instance of the room.
    room_sid: str
    agent_name: str
    #: The service's id of the dispatch, from the request on.
    intent_id: str
    #: LiveKit's id; null until LiveKit has the dispatch.
    dispatch_id: str | None
    #: The `intentId` of the dispatch that this one took over from.
    replaces: str | None
    state: str
    #: Why; for `agent.ended` the reason of the end.
    reason: str | None
    participant_count: int
    agent_identity: str | None
    #: 1 for a request; counts the dispatches in a row that brought no agent.
    attempt: int
    deployment: str
    ttl_expires_at: Time | None
    session_ends_at: Time | None


class _Stored(EventData, array_like=True, frozen=True, kw_only=True):
    """The same without the names, which are half of it.

    A later version adds fields at the end, with defaults: stored events do not have them.
    """


class LoggedEvent(NamedTuple):
    """An event that has its position, so that it can be read and sent."""

    position: int
    #: The same each time that it is sent.
    message_id: str
    topic: str
    at: int
    room_name: str
    #: The data as it was encoded at the commit.
    encoded: str

    @property
    def data(self) -> EventData:
        stored = structs.asdict(msgspec.json.decode(self.encoded, type=_Stored))
        return EventData(**{**stored, "position": self.position})

    @property
    def body(self) -> bytes:
        """What is sent, as Standard Webhooks has it."""
        return msgspec.json.encode({"type": self.topic, "timestamp": to_iso(self.at), "data": self.data})


def event_rows(
    transitions: Iterable[Transition], now: int, new_id: Callable[[], str]
) -> Iterator[tuple[Any, ...]]:
    """The rows of what these changes announce: message id, time, topic, room, data."""
    for transition in transitions:
        before, after = transition.before, transition.after
        for topic, reason in announcements(before, after, transition.event):
            data = msgspec.json.encode(_stored(after, reason)).decode()
            yield (new_id(), now, topic, after.room_name, data)


def _stored(dispatch: Dispatch, reason: str | None) -> _Stored:
    return _Stored(
        room_name=dispatch.room_name,
        room_sid=dispatch.room_sid,
        agent_name=dispatch.agent_name,
        intent_id=dispatch.id,
        dispatch_id=dispatch.dispatch_id,
        replaces=dispatch.succeeds,
        state=dispatch.state,
        reason=reason,
        participant_count=dispatch.participant_count,
        agent_identity=dispatch.agent_identity,
        attempt=dispatch.attempt,
        deployment=dispatch.briefing.deployment,
        ttl_expires_at=to_iso(dispatch.ttl_expires_at),
        session_ends_at=to_iso(dispatch.session_ends_at),
    )
