"""Leaves: what it means that an agent has left its room."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from app.lifecycle import SECOND_US, Dispatch, Event, Policy
from app.state.presence import Participant, ParticipantKind, TrackedParticipant

#: The leave of somebody under whose identity another has joined: a room has each only once.
DUPLICATE = "DUPLICATE_IDENTITY"

#: Leaves in which the whole room goes: neither the agent nor its worker failed.
_ROOM_CLOSED = frozenset({"ROOM_CLOSED", "ROOM_DELETED"})

#: An agent that has brought somebody in leaves soon after.
_HANDOVER_US = 120 * SECOND_US


class Leave(NamedTuple):
    """How an agent left."""

    #: LiveKit's disconnect reason by name.
    reason: str | None
    #: How long it was in the room; None: not known.
    stayed_us: int | None = None
    #: Whether several people stay, one of whom it may have brought in.
    hands_over: bool = False


def leave_of(
    agent: Participant, people: Iterable[Participant], reason: str | None, left_at: int | None
) -> Leave:
    """How `agent` left those who stay. `left_at`: by LiveKit's clock; None: not known."""
    if left_at is None or agent.joined_at is None:
        return Leave(reason)
    joins = [person.joined_at or 0 for person in people]
    has_brought = max(joins, default=0) > max(agent.joined_at, left_at - _HANDOVER_US)
    return Leave(reason, stayed_us=left_at - agent.joined_at, hands_over=len(joins) > 1 and has_brought)


def has_reconnected(agent: Participant, present: Iterable[Participant]) -> bool:
    """Whether only this connection ended, and another one with the agent's identity stays."""
    return any(one.kind is ParticipantKind.AGENT and one.identity == agent.identity for one in present)


def is_displaced(
    agent: Participant, present: Iterable[TrackedParticipant], pseudonym: Callable[[str], str]
) -> bool:
    """Whether a person has joined under the agent's identity since the agent has."""
    person = pseudonym(agent.identity or "")
    return any(one.person == person and not agent.is_newer_than(one) for one in present)


def is_brief(leave: Leave, agent: Participant, policy: Policy) -> bool:
    """Whether the agent left by itself and without a word soon after its join.

    It has failed. Or it is the agent of another job, which was over before the agent had loaded: that one
    connects all the same, and leaves at once (livekit-agents 1.8.9).
    """
    is_wordless = leave.reason == "CLIENT_INITIATED" and not agent.leaving
    return is_wordless and leave.stayed_us is not None and leave.stayed_us < policy.brief_us


def event_of(leave: Leave, dispatch: Dispatch, agent: Participant, policy: Policy) -> Event:
    """The event of a leave: by the agent's own report, else by LiveKit's reason.

    A plain agent that finishes leaves as CLIENT_INITIATED, and so does one that fails; its stay tells more.
    """
    if leave.reason in _ROOM_CLOSED:
        return Event.ROOM_FINISHED
    if agent.leaving:
        return Event.AGENT_LEFT if agent.leaving == "finished" else Event.AGENT_LOST
    if leave.reason != "CLIENT_INITIATED" or is_brief(leave, agent, policy) or agent.is_preparing:
        return Event.AGENT_LOST
    if leave.hands_over:
        return Event.AGENT_HANDED_OVER
    return Event.PUBLISHER_LEFT if dispatch.agent_name in policy.publisher_agents else Event.AGENT_LEFT
