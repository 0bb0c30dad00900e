"""Deadlines: when each state has to be looked at again, and the event of a deadline that has passed."""

from dataclasses import replace

from app.lifecycle.model import LIVE_STATES, Dispatch, Event, State, Visitors
from app.lifecycle.policy import Policy
from app.lifecycle.terms import Terms

_WITH_AGENT = (State.ACTIVE, State.IDLE)
#: What begins a lease anew.
_LEASING = (Event.RETRY_DUE, Event.RELIEF_AWAITED, Event.RELIEVED)


def due_event(dispatch: Dispatch, now: int) -> Event | None:
    """The event of the deadline that has passed; None if none has, as when a timer fires early."""
    if dispatch.due_at is None or dispatch.due_at > now:
        return None
    if dispatch.state is not State.ENDING:
        if _has_passed(dispatch.session_ends_at, now):
            return Event.SESSION_OVER
        if _has_passed(dispatch.ttl_due_at, now):
            return Event.TTL_EXPIRED
    if dispatch.state in _WITH_AGENT:
        return Event.WARNING_DUE
    return Event.JOIN_OVERDUE if _has_passed(dispatch.join_deadline_at, now) else Event.RETRY_DUE


def _has_passed(at: int | None, now: int) -> bool:
    return at is not None and at <= now


def set_deadlines(
    before: Dispatch | None, dispatch: Dispatch, event: Event | None, now: int, policy: Policy
) -> Dispatch:
    """Set the deadlines that the state of `dispatch` owns, and clear the others."""
    if dispatch.state is State.ENDED:
        return replace(
            dispatch,
            ttl_expires_at=None,
            join_deadline_at=None,
            retry_at=None,
            session_ends_at=None,
            warn_at=None,
            ended_at=now,
        )
    entered = before is None or before.state is not dispatch.state
    session_ends_at = (
        _session_end(before, dispatch, event, now, policy.terms_of(dispatch))
        if policy.ends_sessions
        else None
    )
    return replace(
        dispatch,
        ttl_expires_at=_ttl_deadline(before, dispatch, event, now, policy),
        join_deadline_at=_join_deadline(dispatch, event, now, policy, entered=entered),
        retry_at=_retry_deadline(dispatch, event, now, policy, entered=entered),
        session_ends_at=session_ends_at,
        warn_at=_warn_deadline(before, dispatch, session_ends_at, event, now, policy),
    )


def _ttl_deadline(
    before: Dispatch | None, dispatch: Dispatch, event: Event | None, now: int, policy: Policy
) -> int | None:
    """The TTL runs while no person is in the room, from the last leave or the last call."""
    if dispatch.state in (State.ACTIVE, State.ON_HOLD) or dispatch.participant_count:
        return None
    expires_at = dispatch.ttl_expires_at
    ttl_us = _ttl_us(dispatch, policy.terms_of(dispatch))
    restarts = expires_at is None or event in (Event.PEOPLE_OUT, Event.REUSED, Event.RESUMED)
    if dispatch.state in LIVE_STATES and restarts:
        return now + ttl_us
    if event is Event.POLICY_CHANGED and before and expires_at is not None:
        return expires_at - _ttl_us(before, policy.terms_of(before)) + ttl_us
    return expires_at


def _ttl_us(dispatch: Dispatch, terms: Terms) -> int:
    match dispatch.visitors:
        case Visitors.NONE if terms.unvisited_ttl_us is not None:
            return terms.unvisited_ttl_us
        case Visitors.PHONES if terms.phone_ttl_us is not None:
            return terms.phone_ttl_us
        case _:
            return terms.ttl_us


def _session_end(
    before: Dispatch | None, dispatch: Dispatch, event: Event | None, now: int, terms: Terms
) -> int | None:
    """The session begins with its first agent; one that takes over from another has the rest of it."""
    if dispatch.state is State.ON_HOLD:
        return None
    ends_at = dispatch.session_ends_at
    if terms.max_session_us is None:
        return None if event is Event.POLICY_CHANGED else ends_at
    if event is Event.POLICY_CHANGED and dispatch.agent_joined_at:
        former_us = before.terms.max_session_us if before and before.terms else None
        if ends_at is None or former_us is None:
            moved_to = dispatch.agent_joined_at + terms.max_session_us
        elif former_us == terms.max_session_us:
            return ends_at
        else:
            moved_to = ends_at - former_us + terms.max_session_us
        # A new limit ends no agent that has not been warned.
        return max(moved_to, now + terms.warn_before_us)
    if ends_at is None and (event is Event.AGENT_IN or dispatch.state in _WITH_AGENT):
        # Not from its join: an agent that was adopted, or is of a version before, may have joined long ago.
        return now + terms.max_session_us
    return ends_at


def _warn_deadline(
    before: Dispatch | None,
    dispatch: Dispatch,
    session_ends_at: int | None,
    event: Event | None,
    now: int,
    policy: Policy,
) -> int | None:
    """Each agent is told once; until it was, the warning is repeated."""
    warn_before_us = policy.terms_of(dispatch).warn_before_us
    if dispatch.state not in _WITH_AGENT or session_ends_at is None or not warn_before_us:
        return None
    if event is Event.WARNED:
        return None
    if event is Event.WARNING_DUE:
        again_at = now + policy.warn_again_us
        return again_at if again_at < session_ends_at else None
    is_new = before is None or before.state not in _WITH_AGENT
    former = before.terms if before else None
    has_moved = session_ends_at != dispatch.session_ends_at or (
        former is not None and former.warn_before_us != warn_before_us
    )
    if is_new or has_moved:
        return max(now, session_ends_at - warn_before_us)
    return dispatch.warn_at


def _join_deadline(
    dispatch: Dispatch, event: Event | None, now: int, policy: Policy, *, entered: bool
) -> int | None:
    if dispatch.state is not State.STARTING or dispatch.agent_name in policy.publisher_agents:
        return None
    if event is Event.HELD:
        return min(now + policy.terms_of(dispatch).join_timeout_us, max(now, policy.holds_until(dispatch)))
    return now + policy.terms_of(dispatch).join_timeout_us if entered else dispatch.join_deadline_at


def _retry_deadline(
    dispatch: Dispatch, event: Event | None, now: int, policy: Policy, *, entered: bool
) -> int | None:
    failed = event is Event.REMOVE_FAILED
    match dispatch.state:
        case State.CREATING | State.ENDING if entered or event in _LEASING:
            return now + policy.lease_us
        case State.CREATING | State.ENDING:
            return now + policy.interval_us if failed else dispatch.retry_at
        case State.STARTING if dispatch.agent_name not in policy.publisher_agents:
            checked = event is Event.RETRY_DUE
            return now + policy.job_visible_us if entered else None if checked else dispatch.retry_at
        case State.IDLE if failed or event is Event.OCCUPIED:
            return now + (policy.interval_us if failed else policy.healed_wait_us)
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
