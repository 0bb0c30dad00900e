"""Announcements: what a change of a dispatch means to programs that follow agents from outside."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from app.lifecycle.model import Dispatch, Event, State


class Topic(StrEnum):
    """The type of an event for other programs; docs/events.md describes each."""

    REQUESTED = "agent.requested"  #: an agent is wanted where there is none
    DISPATCHED = "agent.dispatched"  #: LiveKit has the dispatch
    READY = "agent.ready"  #: the agent is in the room and answers
    REUSED = "agent.reused"  #: a caller gets the agent that is there
    REPLACED = "agent.replaced"  #: the agent makes way for another one
    IDLE = "agent.idle"  #: the agent is alone in the room; its TTL runs
    ENDED = "agent.ended"  #: the agent is gone
    UNAVAILABLE = "agent.unavailable"  #: an agent is wanted, and none comes
    HELD = "agent.held"  #: a human has taken over
    WARNED = "agent.warned"  #: the longest session ends soon, and its agent was told


class Announcement(NamedTuple):
    topic: Topic
    reason: str | None = None


#: For a dispatch of another program.
ADOPTED = "adopted"

_WITH_DISPATCH = (State.STARTING, State.ACTIVE, State.IDLE)
#: All tries of a request have failed, with or without people in the room.
_TRIED_IN_VAIN = (Event.UNTAKEN, Event.JOIN_OVERDUE)


def announcements(before: Dispatch | None, after: Dispatch, event: str) -> tuple[Announcement, ...]:
    """What one change is to be announced as; most changes are not. `event`: of the history."""
    return tuple(_announcements(before, after, event))


def _announcements(before: Dispatch | None, after: Dispatch, event: str) -> Iterator[Announcement]:
    is_new = before is None or before.state is not after.state
    if before is None and after.succeeds is None:
        yield Announcement(Topic.REQUESTED, ADOPTED if after.dispatch_id else None)
    elif is_new and after.state is State.CREATING and event in (Event.RESUMED, Event.REUSED):
        yield Announcement(Topic.REQUESTED, event)
    if after.dispatch_id and (before is None or before.dispatch_id is None):
        yield Announcement(Topic.DISPATCHED)
    if after.ready_at is not None and (before is None or before.ready_at is None):
        yield Announcement(Topic.READY)
    if event == Event.REUSED and after.state in _WITH_DISPATCH:
        yield Announcement(Topic.REUSED)
    if event in (Event.SUPERSEDED, Event.REFUTED) and is_new and after.state is State.ENDING:
        yield Announcement(Topic.REPLACED, event)
    if event == Event.WARNED:
        yield Announcement(Topic.WARNED)
    if is_new:
        yield from _entered(after, event)


def _entered(after: Dispatch, event: str) -> Iterator[Announcement]:
    match after.state:
        case State.IDLE:
            yield Announcement(Topic.IDLE)
        case State.UNAVAILABLE if after.participant_count or event in _TRIED_IN_VAIN:
            # Without either, nobody waits: it only stands by for a person.
            yield Announcement(Topic.UNAVAILABLE, event)
        case State.ON_HOLD:
            yield Announcement(Topic.HELD)
        case State.ENDED:
            yield Announcement(Topic.ENDED, after.end_reason)
        case _:
            return
