"""Spans of agents on their way: made when a commit tells how it ended, in whichever process that is."""

from typing import NamedTuple

from opentelemetry.trace import Status, StatusCode, Tracer

from app.lifecycle import Dispatch, Effect, Event, State
from app.state.changes import Outcome, Transition
from app.state.trace_context import trace_of
from app.tracing.attributes import ERROR, EVENT, Attributes
from app.tracing.propagation import context_of

_ON_THE_WAY = (State.CREATING, State.STARTING)
_WITH_AGENT = (State.ACTIVE, State.IDLE)
#: Ends that nobody has asked for. Others, such as a room that closes, are no failure of the agent's.
_FAILURES = frozenset(
    {
        Event.NOT_DISPATCHED,
        Event.UNTAKEN,
        Event.JOIN_OVERDUE,
        Event.AGENT_LOST,
        Event.MISSING,
        Event.REFUTED,
    }
)


class _Stage(NamedTuple):
    """One step of an agent, which is over."""

    name: str
    began_at: int
    ended_at: int
    #: The event that ended it.
    event: str


class AgentSpans:
    """`agent.join`: from the dispatch until the agent is in. `agent.ready`: from then until it answers."""

    def __init__(self, tracer: Tracer, attributes: Attributes) -> None:
        self._tracer = tracer
        self._attributes = attributes

    def emit(self, outcome: Outcome, now: int) -> None:
        """Agents for which no traced call has asked have none."""
        for transition in outcome.transitions:
            if trace_of(transition.after.briefing):
                for stage in _stages(transition, now):
                    self._emit(stage, transition.after)
        for effect, dispatch in outcome.effects:
            if effect is Effect.ALERT and trace_of(dispatch.briefing):
                self._emit(_Stage("agent.unavailable", now, now, Event.UNTAKEN), dispatch)

    def _emit(self, stage: _Stage, dispatch: Dispatch) -> None:
        attributes = self._attributes.dispatch(dispatch) | {EVENT: stage.event}
        span = self._tracer.start_span(
            stage.name,
            context=context_of(trace_of(dispatch.briefing)),
            start_time=min(stage.began_at, stage.ended_at) * 1_000,
            attributes=attributes,
        )
        if stage.event in _FAILURES:
            span.set_attribute(ERROR, stage.event)
            span.set_status(Status(StatusCode.ERROR, stage.event))
        span.end(stage.ended_at * 1_000)


def _stages(transition: Transition, now: int) -> list[_Stage]:
    """The steps that the transition ends."""
    before, after, event = transition.before, transition.after, transition.event
    joined_at, stages = after.agent_joined_at, []
    if before is None:
        return []
    # Without a deadline nobody waits for it: it is a publisher's, and comes when somebody publishes.
    is_awaited = before.state is not State.STARTING or before.join_deadline_at is not None
    if joined_at is not None and before.agent_joined_at is None and is_awaited:
        stages.append(_Stage("agent.join", _dispatched_at(after, joined_at), joined_at, event))
    if joined_at is not None and after.ready_at is not None and before.ready_at is None:
        stages.append(_Stage("agent.ready", joined_at, after.ready_at, event))
    if after.state in (State.ENDING, State.ENDED):
        if before.state in _ON_THE_WAY and joined_at is None and is_awaited:
            stages.append(_Stage("agent.join", _dispatched_at(after, now), now, event))
        elif before.state in (*_ON_THE_WAY, *_WITH_AGENT) and joined_at and after.ready_at is None:
            stages.append(_Stage("agent.ready", joined_at, now, event))
    return stages


def _dispatched_at(dispatch: Dispatch, until: int) -> int:
    """By LiveKit's clock, which may differ: not before the row was stored, and not after `until`."""
    return min(max(dispatch.dispatched_at or 0, dispatch.created_at), until)
