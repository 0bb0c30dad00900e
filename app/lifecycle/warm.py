"""The life of a warm agent: it waits in a holding room until a dispatch claims it.

It has a table of its own: what happens in a holding room says nothing about the room of a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

#: Holding rooms are named so, and no other room may be.
HOLDING_PREFIX = "agent-warm."


def is_holding_room(room_name: str) -> bool:
    return room_name.startswith(HOLDING_PREFIX)


class WarmState(StrEnum):
    CREATING = "creating"  #: stored; LiveKit has not confirmed its holding room and dispatch yet
    STARTING = "starting"  #: dispatched; it does not wait yet
    WAITING = "waiting"  #: it answers that it waits
    CLAIMED = "claimed"  #: a dispatch has it, for the room of a person
    ENDING = "ending"  #: its holding room is being deleted, and its job with it
    ENDED = "ended"  #: over, with a reason


#: In the pool, or on its way there.
POOLED = (WarmState.CREATING, WarmState.STARTING, WarmState.WAITING)


class WarmEnd(StrEnum):
    NOT_CREATED = "not_created"  #: LiveKit refused, or a crash interrupted the creation
    UNTAKEN = "untaken"  #: no worker took its job
    NEVER_CAME = "never_came"  #: a worker took its job, and no agent came
    NEVER_WAITED = "never_waited"  #: the agent came, and does not wait: it has no helper, or an old one
    LOST = "lost"  #: it left, or does not answer any more
    AGED = "aged"  #: a newer one takes its place
    UNWANTED = "unwanted"  #: the policy wants no more of its kind
    CLAIM_FAILED = "claim_failed"  #: told to come, it did not
    USED = "used"  #: the dispatch that had claimed it is over


#: An agent that ends so has shown that the next one may fare no better.
FAILURES = (WarmEnd.NOT_CREATED, WarmEnd.UNTAKEN, WarmEnd.NEVER_CAME, WarmEnd.NEVER_WAITED)


class WarmEvent(StrEnum):
    DISPATCHED = "dispatched"  #: LiveKit holds its dispatch
    READY = "ready"  #: it waits
    CLAIMED = "claimed"  #: a dispatch takes it
    DISMISSED = "dismissed"  #: it is to go
    REMOVED = "removed"  #: its holding room is gone from LiveKit


#: What each event does in each state. A pair that is absent is ignored: the event is stale in that state.
WARM_TABLE: Mapping[WarmEvent, Mapping[WarmState, WarmState]] = {
    WarmEvent.DISPATCHED: {WarmState.CREATING: WarmState.STARTING},
    WarmEvent.READY: {WarmState.STARTING: WarmState.WAITING},
    WarmEvent.CLAIMED: {WarmState.WAITING: WarmState.CLAIMED},
    WarmEvent.DISMISSED: dict.fromkeys((*POOLED, WarmState.CLAIMED), WarmState.ENDING),
    WarmEvent.REMOVED: {WarmState.ENDING: WarmState.ENDED},
}


@dataclass(frozen=True, kw_only=True)
class WarmAgent:
    id: str
    agent_name: str
    #: As in `Briefing`: workers of this deployment only.
    deployment: str = ""
    state: WarmState = WarmState.CREATING
    #: LiveKit's id of its dispatch; None while creating.
    dispatch_id: str | None = None
    #: None until it waits.
    agent_identity: str | None = None
    #: The row of the dispatch that has it.
    claimed_by: str | None = None
    created_at: int
    ready_at: int | None = None
    claimed_at: int | None = None
    ended_at: int | None = None
    end_reason: WarmEnd | None = None

    @property
    def room_name(self) -> str:
        """Its holding room's."""
        return HOLDING_PREFIX + self.id

    @property
    def waited_until(self) -> int | None:
        """Until when its time counts as warm; None: it still does."""
        return self.claimed_at or self.ended_at


@dataclass(frozen=True, kw_only=True)
class WarmSignal:
    """An event with its data; None means that the event does not carry that value."""

    event: WarmEvent
    dispatch_id: str | None = None
    agent_identity: str | None = None
    claimed_by: str | None = None
    reason: WarmEnd | None = None


def decide_warm(agent: WarmAgent, signal: WarmSignal, now: int) -> WarmAgent:
    """Apply `signal` to `agent`; a signal that is stale in its state changes nothing."""
    to = WARM_TABLE[signal.event].get(agent.state)
    if to is None:
        return agent
    moved = replace(
        agent,
        state=to,
        dispatch_id=signal.dispatch_id or agent.dispatch_id,
        agent_identity=signal.agent_identity or agent.agent_identity,
        claimed_by=signal.claimed_by or agent.claimed_by,
        end_reason=signal.reason or agent.end_reason,
    )
    match to:
        case WarmState.WAITING:
            return replace(moved, ready_at=now)
        case WarmState.CLAIMED:
            return replace(moved, claimed_at=now)
        case WarmState.ENDED:
            return replace(moved, ended_at=now)
        case _:
            return moved
