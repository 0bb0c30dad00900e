"""The successor: the dispatch that takes over from one that ends."""

from dataclasses import replace

from app.lifecycle.deployments import leave_failing, next_deployment
from app.lifecycle.model import Dispatch, EndReason, Signal, State
from app.lifecycle.policy import Policy
from app.lifecycle.table import Successor
from app.lifecycle.terms import Restart


def make_successor(
    kind: Successor, ended: Dispatch, signal: Signal, now: int, policy: Policy
) -> Dispatch | None:
    """The dispatch that takes over from `ended`; None if none is needed."""
    people = ended.participant_count > 0
    fresh = Dispatch(
        id=signal.successor_id,
        room_name=ended.room_name,
        room_sid=ended.room_sid,
        agent_name=ended.agent_name,
        state=State.CREATING,
        created_at=now,
        last_activity_at=ended.last_activity_at,
        participant_count=ended.participant_count,
        ttl_expires_at=ended.ttl_expires_at,
        succeeds=ended.id,
        former_agent=ended.agent_identity,
        briefing=signal.told(ended.briefing),
        timezone=ended.timezone,
        timezone_offset_min=ended.timezone_offset_min,
        terms=ended.terms,
        visitors=ended.visitors,
        vacated_at=ended.vacated_at,
        session_ends_at=ended.session_ends_at,
        accounted_at=now,
        requested_by=ended.requested_by,
        restarts=ended.restarts,
        restarts_since=ended.restarts_since,
    )
    restart = policy.restart_of(ended)
    match kind:
        case Successor.NEXT_ATTEMPT:
            return _next_attempt(next_deployment(fresh, now, policy) or fresh, ended.attempt, policy)
        case Successor.LATER if ended.succeeds:
            fresh = replace(fresh, attempt=ended.attempt, state=State.UNAVAILABLE)
        case Successor.RESTART if restart is not Restart.NEVER:
            fresh = _restarted(fresh, now, policy)
        case Successor.RESTART_ALWAYS if restart is Restart.ALWAYS:
            fresh = _restarted(fresh, now, policy)
        case Successor.REPLACEMENT:
            pass
        case Successor.RELIEF:
            return replace(fresh, briefing=signal.briefing or ended.briefing)
        case Successor.DORMANT:
            fresh = replace(fresh, state=State.UNAVAILABLE)
        case Successor.ON_HOLD:
            return replace(fresh, state=State.ON_HOLD)
        case Successor.COMEBACK if people and ended.end_reason is EndReason.EXPIRED:
            pass
        case _:
            return None
    return leave_failing(fresh, now, policy)


def _next_attempt(fresh: Dispatch, attempt: int, policy: Policy) -> Dispatch:
    if attempt < policy.max_attempts:
        return replace(fresh, attempt=attempt + 1)
    return replace(fresh, attempt=attempt, state=State.UNAVAILABLE)


def _restarted(fresh: Dispatch, now: int, policy: Policy) -> Dispatch:
    """Count this restart; unavailable in an empty room, or when the limit of restarts is reached."""
    if not fresh.participant_count:
        # Nobody waits: it costs nothing until a person joins, and its TTL ends it if none does.
        return replace(fresh, state=State.UNAVAILABLE)
    since = fresh.restarts_since
    if since is None or now - since > policy.restart_window_us:
        return replace(fresh, restarts=1, restarts_since=now)
    if not is_crash_loop(fresh, now, policy):
        return replace(fresh, restarts=fresh.restarts + 1)
    other = next_deployment(fresh, now, policy)
    deployments = policy.terms_of(fresh).deployments or ("",)
    if other and not policy.fails(other, now) and fresh.restarts < policy.max_restarts * len(deployments):
        # The crash loop is this deployment's. The next one has as many restarts; none has its turn twice.
        return replace(other, restarts=fresh.restarts + 1)
    return replace(other or fresh, state=State.UNAVAILABLE, attempt=policy.max_attempts)


def is_crash_loop(ended: Dispatch, now: int, policy: Policy) -> bool:
    """Whether people wait and its deployment has had all its restarts: another one would be in vain."""
    since, restarts = ended.restarts_since, ended.restarts
    is_recent = since is not None and now - since <= policy.restart_window_us
    has_had_all = restarts > 0 and restarts % policy.max_restarts == 0
    return ended.participant_count > 0 and is_recent and has_had_all
