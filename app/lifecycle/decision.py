"""The application of the table to one dispatch: its new state, deadlines, effects and successor."""

from dataclasses import replace

from app.lifecycle.model import (
    LIVE_STATES,
    Decision,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Signal,
    State,
)
from app.lifecycle.successor import make_successor
from app.lifecycle.table import TABLE, Goal, Rule


def decide(dispatch: Dispatch, signal: Signal, now: int, policy: Policy) -> Decision:
    """Apply `signal` to `dispatch`; a signal that is stale in its state changes nothing."""
    rule = TABLE[signal.event].get(dispatch.state)
    if rule is None:
        return Decision(dispatch=dispatch)
    observed = _observe(dispatch, signal, now)
    to = _target(rule.to, dispatch, observed)
    moved = replace(observed, state=to, version=dispatch.version + 1)
    if rule.reason and not (to is State.ENDED and moved.end_reason):
        moved = replace(moved, end_reason=rule.reason)
    if to in LIVE_STATES:
        moved = replace(moved, end_reason=None)
    timed = _set_deadlines(dispatch, moved, signal.event, now, policy)
    fresh = make_successor(rule.successor, timed, signal.successor_id, now, policy)
    successor = open_dispatch(replace(fresh, cause=signal.event), now, policy) if fresh else None
    effects = _effects(rule, timed)
    if successor and _needs_alert(dispatch, successor, policy):
        effects = (*effects, Effect.ALERT)
    return Decision(dispatch=timed, effects=effects, successor=successor)


def _needs_alert(ended: Dispatch, successor: Dispatch, policy: Policy) -> bool:
    """Whether the successor is the first in its row for which people wait and no agent is available."""
    if successor.state is not State.UNAVAILABLE or ended.attempt > policy.max_attempts:
        return False
    return successor.attempt >= policy.max_attempts or successor.retry_at is not None


def due_event(dispatch: Dispatch, now: int) -> Event | None:
    """The event of the deadline that has passed; None if none has, as when a timer fires early."""
    if dispatch.due_at is None or dispatch.due_at > now:
        return None
    ttl_passed = dispatch.ttl_due_at is not None and dispatch.ttl_due_at <= now
    if ttl_passed and dispatch.state is not State.ENDING:
        return Event.TTL_EXPIRED
    overdue = dispatch.join_deadline_at is not None and dispatch.join_deadline_at <= now
    return Event.JOIN_OVERDUE if overdue else Event.RETRY_DUE


def open_dispatch(dispatch: Dispatch, now: int, policy: Policy) -> Dispatch:
    """Set the deadlines of a new dispatch."""
    return _set_deadlines(None, dispatch, None, now, policy)


def _observe(dispatch: Dispatch, signal: Signal, now: int) -> Dispatch:
    """Copy the signal's data into `dispatch`: counts, identities, activity."""
    people = dispatch.participant_count if signal.people is None else signal.people
    active = signal.event in (Event.PEOPLE_IN, Event.PEOPLE_OUT, Event.REUSED)
    observed = replace(
        dispatch,
        participant_count=people,
        last_activity_at=now if active else dispatch.last_activity_at,
        # The first id stays: a second dispatch comes from a process that had lost its lease.
        dispatch_id=dispatch.dispatch_id or signal.dispatch_id,
        dispatched_at=dispatch.dispatched_at or signal.dispatched_at,
    )
    if signal.event is Event.AGENT_IN and signal.agent_identity:
        # The agent joined: earlier failures no longer count.
        return replace(observed, agent_identity=signal.agent_identity, agent_joined_at=now, attempt=1)
    if signal.event is Event.JOIN_OVERDUE and signal.agent_identity:
        # A worker has the job: this is whom it is for.
        return replace(observed, agent_identity=signal.agent_identity)
    if signal.event is Event.PUBLISHER_LEFT:
        return replace(observed, agent_identity=None, agent_joined_at=None)
    if dispatch.state is State.UNAVAILABLE and signal.event in (Event.RETRY_DUE, Event.REUSED):
        return replace(observed, attempt=dispatch.attempt + 1)
    if signal.event is Event.REMOVE_FAILED:
        return replace(observed, cleanup_failures=dispatch.cleanup_failures + 1)
    return observed


def _target(to: State | Goal, before: Dispatch, dispatch: Dispatch) -> State:
    occupancy = State.ACTIVE if dispatch.participant_count else State.IDLE
    arrived = occupancy if dispatch.agent_identity else State.STARTING
    expired = dispatch.end_reason is EndReason.EXPIRED
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
    if (
        dispatch.state is State.ENDING
        and rule.effects == (Effect.REMOVE,)
        and dispatch.end_reason is EndReason.EXPIRED
    ):
        return (Effect.EXPIRE,)
    return rule.effects


def _set_deadlines(
    before: Dispatch | None, dispatch: Dispatch, event: Event | None, now: int, policy: Policy
) -> Dispatch:
    """Set the deadlines that the state of `dispatch` owns, and clear the others."""
    if dispatch.state is State.ENDED:
        return replace(dispatch, ttl_expires_at=None, join_deadline_at=None, retry_at=None, ended_at=now)
    entered = before is None or before.state is not dispatch.state
    return replace(
        dispatch,
        ttl_expires_at=_ttl_deadline(dispatch, event, now, policy),
        join_deadline_at=_join_deadline(dispatch, event, now, policy, entered=entered),
        retry_at=_retry_deadline(dispatch, event, now, policy, entered=entered),
    )


def _ttl_deadline(dispatch: Dispatch, event: Event | None, now: int, policy: Policy) -> int | None:
    """The TTL runs while no person is in the room, from the last leave or the last call."""
    if dispatch.state is State.ACTIVE or dispatch.participant_count:
        return None
    restarts = dispatch.ttl_expires_at is None or event in (Event.PEOPLE_OUT, Event.REUSED)
    if dispatch.state in LIVE_STATES and restarts:
        return now + policy.ttl_us
    return dispatch.ttl_expires_at


def _join_deadline(
    dispatch: Dispatch, event: Event | None, now: int, policy: Policy, *, entered: bool
) -> int | None:
    if dispatch.state is not State.STARTING or dispatch.agent_name in policy.publisher_agents:
        return None
    if event is Event.HELD:
        return min(now + policy.join_timeout_us, max(now, policy.holds_until(dispatch)))
    return now + policy.join_timeout_us if entered else dispatch.join_deadline_at


def _retry_deadline(
    dispatch: Dispatch, event: Event | None, now: int, policy: Policy, *, entered: bool
) -> int | None:
    failed = event is Event.REMOVE_FAILED
    match dispatch.state:
        case State.CREATING | State.ENDING if entered or event is Event.RETRY_DUE:
            return now + policy.lease_us
        case State.CREATING | State.ENDING:
            return now + policy.interval_us if failed else dispatch.retry_at
        case State.STARTING if dispatch.agent_name not in policy.publisher_agents:
            checked = event is Event.RETRY_DUE
            return now + policy.job_visible_us if entered else None if checked else dispatch.retry_at
        case State.IDLE:
            return now + policy.interval_us if failed else None
        case State.UNAVAILABLE if dispatch.participant_count:
            return now + _retry_wait_us(dispatch, policy) if entered else dispatch.retry_at
        case _:
            return None


def _retry_wait_us(dispatch: Dispatch, policy: Policy) -> int:
    """The wait before the next retry: it doubles each time, and a crash loop gets the longest."""
    if dispatch.restarts >= policy.max_restarts:
        return policy.longest_wait_us
    doublings = max(0, dispatch.attempt - policy.max_attempts)
    return min(policy.first_wait_us << min(doublings, 16), policy.longest_wait_us)
