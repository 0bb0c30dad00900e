"""Requests for agents, and their results."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from app.control.processor import new_row_id
from app.lifecycle import UNTOLD, Briefing, Dispatch, Event, Signal, State
from app.state.presence import Room
from app.state.trace_context import Trace, within

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Of a call that waits for a place."""

    wait_s: float
    #: False once the caller has hung up.
    is_wanted: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    #: That of a dispatch that is made for it, and of its claim before.
    id: str = field(default_factory=new_row_id)
    room_name: str
    agent_name: str
    timezone: str | None = None
    timezone_offset_min: int | None = None
    #: None: the caller does not say what the agent is told.
    briefing: Briefing | None = None
    #: Whether an agent that was told something else is replaced.
    replaces_if_told_otherwise: bool = False
    #: Whether the call restarts the TTL of an agent with nobody in.
    extends_ttl: bool = True
    #: Whether an agent that is on hold comes back.
    resumes: bool = False
    #: As in `Dispatch`.
    requested_by: str | None = None
    #: None: the call does not wait for a place.
    patience: Patience | None = None
    #: The trace that the call belongs to.
    trace: Trace = field(default_factory=dict)

    def intended(self, room: Room, now: int) -> Dispatch:
        """The dispatch that would serve the request, in this instance of the room."""
        return Dispatch(
            id=new_row_id(),
            room_name=self.room_name,
            room_sid=room.sid,
            agent_name=self.agent_name,
            state=State.CREATING,
            created_at=now,
            last_activity_at=now,
            timezone=self.timezone,
            timezone_offset_min=self.timezone_offset_min,
            briefing=within(self.briefing or UNTOLD, self.trace),
        )

    def signal(self, event: Event, row: Dispatch, agent_identity: str | None = None) -> Signal:
        """What the call does to a row; an agent that comes of it belongs to the trace of the call."""
        told = self.briefing if event is Event.RESUMED else None
        attributes = within(told or row.briefing, self.trace).attributes if self.trace else None
        return Signal(event=event, agent_identity=agent_identity, briefing=told, attributes=attributes)

    def agrees_with(self, briefing: Briefing) -> bool:
        """Whether an agent with this briefing was told what the caller asks for."""
        return self.briefing is None or _meaning(self.briefing.metadata) == _meaning(briefing.metadata)

    def judge(self, grant: "AgentGrant") -> "AgentGrant":
        """The grant, with whether its agent was told what this request asks for."""
        is_told = not grant.is_on_hold and self.agrees_with(grant.dispatch.briefing)
        return replace(grant, briefing_applied=None if self.briefing is None else is_told)

    def takes(self, briefing: Briefing) -> bool:
        """Whether an agent with this briefing may serve the request."""
        return not self.replaces_if_told_otherwise or self.agrees_with(briefing)


class Source(StrEnum):
    """Where the agent of a grant comes from."""

    WARM = "warm"  #: it waited, loaded, for a call
    DISPATCHED = "dispatched"  #: a new one was dispatched
    REUSED = "reused"  #: it was in the room, or on its way there


class QueueTicket(NamedTuple):
    """Of a call that has waited for a place."""

    #: Where it stood when it came; 1 is the next.
    position: int
    waited_ms: int


@dataclass(frozen=True, kw_only=True)
class AgentGrant:
    #: Live; on hold there is no agent.
    dispatch: Dispatch
    #: Whether the agent was in the room, or starting, before this call.
    reused: bool
    #: Whether the agent was told what the call asked for; None: it did not say.
    briefing_applied: bool | None = None
    #: How long the call has waited for an agent that answers; None: it did not wait.
    ready_after_ms: int | None = None
    #: None: the call did not wait for a place.
    queue: QueueTicket | None = None

    @property
    def is_ready(self) -> bool:
        return is_ready(self.dispatch)

    @property
    def is_on_hold(self) -> bool:
        return self.dispatch.state is State.ON_HOLD

    @property
    def result(self) -> str:
        """For the metrics."""
        return "on_hold" if self.is_on_hold else "reused" if self.reused else "created"

    @property
    def source(self) -> Source | None:
        """Where the agent comes from; None: on hold there is none."""
        if self.is_on_hold:
            return None
        if self.reused:
            return Source.REUSED
        return Source.WARM if self.dispatch.holding_room else Source.DISPATCHED

    def for_another_call(self) -> "AgentGrant":
        """The same for a call that asked while the agent was requested already."""
        return replace(self, reused=not self.is_on_hold)


def is_ready(dispatch: Dispatch) -> bool:
    """Whether its agent is in the room and has answered."""
    return dispatch.ready_at is not None and dispatch.state in (State.ACTIVE, State.IDLE)


def log_served(action: str, dispatch: Dispatch) -> None:
    logger.info(
        "Agent request served",
        extra={
            "action": action,
            "dispatch_id": dispatch.dispatch_id,
            "room": dispatch.room_name,
            "agent": dispatch.agent_name,
            "state": dispatch.state,
        },
    )


def _meaning(metadata: str) -> Any:
    """What metadata says: the order and the blanks of JSON do not matter."""
    try:
        return msgspec.json.decode(metadata)
    except msgspec.DecodeError:
        return metadata
