"""The application of the table to one dispatch: its new state, deadlines, effects and successor."""

from dataclasses import replace

from app.lifecycle.deadlines import set_deadlines
from app.lifecycle.deployments import choose_deployment, leave_failing, with_deployments_of
from app.lifecycle.model import (
    LIVE_STATES,
    Decision,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Signal,
    State,
    Visitors,
)
from app.lifecycle.policy import Policy
from app.lifecycle.successor import make_successor
from app.lifecycle.table import TABLE, Goal, Rule, Successor


def decide(dispatch: Dispatch, signal: Signal, now: int, policy: Policy) -> Decision:
    """Apply `signal` to `dispatch`; a signal that is stale in its state changes nothing."""
    rule = TABLE[signal.event].get(dispatch.state)
    if rule is None or (signal.event is Event.READY and not _is_new_answer(dispatch, signal)):
        return Decision(dispatch=dispatch)
    observed = _observe(dispatch, signal, now, policy)
    to = _target(rule.to, dispatch, observed)
    moved = replace(observed, state=to, version=dispatch.version + 1)
    if rule.reason and not (to is State.ENDED and moved.end_reason):
        moved = replace(moved, end_reason=rule.reason)
    if to in LIVE_STATES:
        moved = replace(moved, end_reason=None)
    timed = set_deadlines(dispatch, moved, signal.event, now, policy)
    fresh = make_successor(rule.successor, timed, signal, now, policy)
    # One that waits for a person takes over from nobody.
    cause = rule.successor if rule.successor is Successor.DORMANT else signal.event
    successor = set_deadlines(None, replace(fresh, cause=cause), None, now, policy) if fresh else None
    effects = _effects(rule, timed)
    if successor and _needs_alert(dispatch, successor, policy):
        effects = (*effects, Effect.ALERT)
    return Decision(dispatch=timed, effects=effects, successor=successor)


def _needs_alert(ended: Dispatch, successor: Dispatch, policy: Policy) -> bool:
    """Whether the successor is the first in its row for which people wait and no agent is available."""
    if successor.state is not State.UNAVAILABLE or ended.attempt > policy.max_attempts:
        return False
    return successor.attempt >= policy.max_attempts or successor.retry_at is not None


def open_dispatch(dispatch: Dispatch, now: int, policy: Policy) -> Dispatch:
    """Set the terms, the deployment and the deadlines of a new dispatch."""
    terms = policy.terms_of(dispatch)
    if dispatch.dispatch_id is None:
        dispatch = choose_deployment(dispatch, terms, now, policy)
    else:
        terms = replace(terms, deployments=None)
    return set_deadlines(None, replace(dispatch, terms=terms, accounted_at=now), None, now, policy)


def met(dispatch: Dispatch, people: int, phones: int | None) -> Dispatch:
    """The dispatch with that many people in its room; `phones` None: as many by telephone as before."""
    visitors = dispatch.visitors
    if people and visitors is not Visitors.OTHERS:
        if phones is not None:
            visitors = Visitors.PHONES if phones >= people else Visitors.OTHERS
        elif visitors is Visitors.NONE:
            visitors = Visitors.OTHERS
    return replace(dispatch, participant_count=people, visitors=visitors)


def _is_new_answer(dispatch: Dispatch, signal: Signal) -> bool:
    """Whether the agent that answered is its agent, and was not known to answer."""
    return dispatch.ready_at is None and dispatch.agent_identity == signal.agent_identity


def _observe(dispatch: Dispatch, signal: Signal, now: int, policy: Policy) -> Dispatch:
    """Copy the signal's data into `dispatch`: counts, identities, activity, terms."""
    people = dispatch.participant_count if signal.people is None else signal.people
    has_emptied = dispatch.participant_count > 0 and not people
    active = signal.event in (Event.PEOPLE_IN, Event.PEOPLE_OUT, Event.REUSED)
    terms = policy.terms_of(dispatch)
    observed = replace(
        met(dispatch, people, signal.phones),
        terms=with_deployments_of(signal.terms, terms) if signal.terms else terms,
        vacated_at=None if people else now if has_emptied else dispatch.vacated_at,
        last_activity_at=now if active else dispatch.last_activity_at,
        # The first id stays: a second dispatch comes from a process that had lost its lease.
        dispatch_id=dispatch.dispatch_id or signal.dispatch_id,
        dispatched_at=dispatch.dispatched_at or signal.dispatched_at,
    )
    if _brings_agent(observed, signal):
        # The agent joined: earlier failures no longer count.
        return replace(
            observed, agent_identity=signal.agent_identity, agent_joined_at=now, ready_at=None, attempt=1
        )
    if signal.event is Event.READY:
        return replace(observed, ready_at=now)
    if signal.event is Event.JOIN_OVERDUE and signal.agent_identity:
        # A worker has the job: this is whom it is for.
        return replace(observed, agent_identity=signal.agent_identity)
    if signal.event is Event.PUBLISHER_LEFT or (signal.event is Event.RELIEVED and signal.agent_identity):
        return replace(observed, agent_identity=None, agent_joined_at=None, ready_at=None)
    if signal.event is Event.RESUMED:
        return _resumed(observed, signal, now, policy)
    if dispatch.state is State.UNAVAILABLE and signal.event in (Event.RETRY_DUE, Event.REUSED):
        told = signal.told(observed.briefing)
        return replace(observed, attempt=dispatch.attempt + 1, briefing=told)
    if signal.event is Event.REMOVE_FAILED:
        return replace(observed, cleanup_failures=dispatch.cleanup_failures + 1)
    return observed


def _brings_agent(dispatch: Dispatch, signal: Signal) -> bool:
    """Whether its agent joined: with a dispatch that claimed a warm one it is in already."""
    if signal.event is Event.DISPATCHED:
        return signal.agent_identity not in (None, dispatch.agent_identity)
    return signal.event is Event.AGENT_IN and signal.agent_identity is not None


def _resumed(held: Dispatch, signal: Signal, now: int, policy: Policy) -> Dispatch:
    """As new: failures from before the hold do not count, nor does its time."""
    fresh = replace(held, created_at=now, vacated_at=None, attempt=1, restarts=0, restarts_since=None)
    told = signal.told(signal.briefing or held.briefing)
    if signal.briefing and told.deployment:
        given = replace(policy.terms_of(held), deployments=None)
        return replace(fresh, briefing=told, terms=given)
    told = replace(told, deployment=held.briefing.deployment)
    return leave_failing(replace(fresh, briefing=told), now, policy)


def _target(to: State | Goal, before: Dispatch, dispatch: Dispatch) -> State:
    occupancy = State.ACTIVE if dispatch.participant_count else State.IDLE
    arrived = occupancy if dispatch.agent_identity else State.STARTING
    expired = dispatch.end_reason is EndReason.EXPIRED
    drained = dispatch.end_reason is EndReason.DRAINED
    match to:
        case Goal.KEEP:
            return dispatch.state
        case Goal.ARRIVED:
            return arrived
        case Goal.OCCUPANCY:
            return occupancy
        case Goal.HEALED:
            return arrived if expired else dispatch.state
        case Goal.RETURNED:
            return occupancy if expired and dispatch.agent_identity else dispatch.state
        case Goal.RESTORED:
            return occupancy if drained and dispatch.agent_identity else dispatch.state
        case Goal.ATTEMPT:
            return State.CREATING if dispatch.participant_count else dispatch.state
        case Goal.NEWCOMER:
            return (
                State.CREATING
                if dispatch.participant_count and not before.participant_count
                else dispatch.state
            )
        case Goal.DORMANT:
            idle = dispatch.succeeds and not dispatch.agent_identity
            return State.UNAVAILABLE if idle else dispatch.state
        case _:
            return to


def _effects(rule: Rule, dispatch: Dispatch) -> tuple[Effect, ...]:
    if rule.effects == (Effect.CREATE,) and dispatch.state is not State.CREATING:
        return ()
    if rule.effects == (Effect.CHECK_READY,) and dispatch.state not in (State.ACTIVE, State.IDLE):
        return ()
    if (
        dispatch.state is State.ENDING
        and rule.effects == (Effect.REMOVE,)
        and dispatch.end_reason is EndReason.EXPIRED
    ):
        return (Effect.EXPIRE,)
    return rule.effects
