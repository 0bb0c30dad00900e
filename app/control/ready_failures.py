"""Why an agent does not answer: the failure of a call that waits for it, read from its row."""

from app.errors import (
    AgentEnded,
    CrashLoop,
    JoinTimeout,
    LiveKitUnavailable,
    NoWorker,
    OnHold,
    ServiceError,
)
from app.lifecycle import Dispatch, EndReason, Event, Policy, State
from app.lifecycle.descriptions import END_REASONS

#: Ends after which another dispatch of the same agent name takes over.
_TAKEN_OVER = (EndReason.REPLACED, EndReason.DUPLICATE, EndReason.ON_HOLD, EndReason.DRAINED)


def failure_of(row: Dispatch, policy: Policy, losses: int) -> ServiceError | None:
    """The failure that is certain; None as long as the agent may still come.

    `row`: the live one, or the last one of a room that has none. `losses`: how often nothing was left of the
    agent, and the call has requested it again.
    """
    match row.state:
        case State.ON_HOLD:
            return OnHold("A human has taken over, and no agent comes until the room is resumed")
        case State.UNAVAILABLE if row.attempt >= policy.max_attempts or losses >= policy.max_restarts:
            return _failure_by_cause(row)
        case State.ENDING if row.end_reason is EndReason.EXPIRED:
            # With people in it stays.
            return None
        case State.ENDING | State.ENDED if row.end_reason not in _TAKEN_OVER:
            return _failure_by_end(row.end_reason)
        case _:
            return None


def failure_in_time(row: Dispatch) -> ServiceError:
    """The failure of a call that has waited long enough; what is under way goes on."""
    if row.state in (State.ACTIVE, State.IDLE):
        return JoinTimeout("The agent is in the room, but it does not answer yet")
    if row.cause == Event.UNTAKEN:
        return NoWorker("No worker has taken the job")
    return JoinTimeout("No agent has joined the room in time")


def _failure_by_cause(row: Dispatch) -> ServiceError:
    match row.cause:
        case Event.UNTAKEN:
            return NoWorker("No worker has taken the job")
        case Event.JOIN_OVERDUE:
            return JoinTimeout("No agent has joined the room in time")
        case Event.NOT_DISPATCHED:
            return LiveKitUnavailable("LiveKit did not create the dispatch")
        case _:
            return CrashLoop("The agent has failed too often")


def _failure_by_end(reason: EndReason | None) -> ServiceError:
    if reason is EndReason.AGENT_FAILED:
        return CrashLoop("The agent has failed, and its policy does not restart it")
    why = END_REASONS[reason] if reason else "unknown"
    return AgentEnded(f"The agent was ended before it answered: {why}")
