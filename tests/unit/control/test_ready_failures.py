"""What a call that waits is told of each row, and of which rows it is told nothing yet."""

import pytest

from app.control.ready_failures import failure_in_time, failure_of
from app.lifecycle import SECOND_US, Dispatch, EndReason, Event, Policy, State, Terms

NOW = 1_700_000_000_000_000
POLICY = Policy(
    default=Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US), interval_us=60 * SECOND_US
)


def row(
    state: State, *, reason: EndReason | None = None, cause: Event | None = None, attempt: int = 1
) -> Dispatch:
    return Dispatch(
        id="row",
        room_name="room",
        room_sid="RM_1",
        agent_name="agent",
        state=state,
        created_at=NOW,
        last_activity_at=NOW,
        end_reason=reason,
        cause=cause,
        attempt=attempt,
    )


def code_of(dispatch: Dispatch, *, losses: int = 0) -> str | None:
    failure = failure_of(dispatch, POLICY, losses)
    return failure.code if failure else None


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (Event.UNTAKEN, "no_worker"),
        (Event.JOIN_OVERDUE, "join_timeout"),
        (Event.AGENT_LOST, "crash_loop"),
        (Event.AGENT_LEFT, "crash_loop"),
        (Event.MISSING, "crash_loop"),
        (Event.NOT_DISPATCHED, "livekit_unavailable"),
    ],
)
def test_an_unavailable_agent_is_told_by_what_ended_the_last_one(cause: Event, code: str) -> None:
    assert code_of(row(State.UNAVAILABLE, cause=cause, attempt=POLICY.max_attempts)) == code
    assert code_of(row(State.UNAVAILABLE, cause=cause), losses=POLICY.max_restarts) == code
    assert code_of(row(State.UNAVAILABLE, cause=cause)) is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (EndReason.EXPIRED, "agent_ended"),
        (EndReason.REQUESTED, "agent_ended"),
        (EndReason.ROOM_FINISHED, "agent_ended"),
        (EndReason.AGENT_LEFT, "agent_ended"),
        (EndReason.MAX_SESSION, "agent_ended"),
        (EndReason.GONE, "agent_ended"),
        (EndReason.AGENT_FAILED, "crash_loop"),
        (EndReason.REPLACED, None),
        (EndReason.DUPLICATE, None),
        (EndReason.ON_HOLD, None),
    ],
)
def test_an_agent_that_has_ended_is_told_unless_another_takes_over(
    reason: EndReason, code: str | None
) -> None:
    assert code_of(row(State.ENDED, reason=reason)) == code


def test_an_agent_whose_ttl_has_passed_may_stay_until_it_has_ended() -> None:
    assert code_of(row(State.ENDING, reason=EndReason.EXPIRED)) is None
    assert code_of(row(State.ENDING, reason=EndReason.REQUESTED)) == "agent_ended"


def test_a_hold_is_told_at_once() -> None:
    assert code_of(row(State.ON_HOLD)) == "on_hold"


@pytest.mark.parametrize("state", [State.CREATING, State.STARTING, State.ACTIVE, State.IDLE])
def test_an_agent_on_its_way_is_waited_for(state: State) -> None:
    assert code_of(row(state)) is None


@pytest.mark.parametrize(
    ("state", "cause", "code"),
    [
        (State.STARTING, None, "join_timeout"),
        (State.STARTING, Event.JOIN_OVERDUE, "join_timeout"),
        (State.STARTING, Event.UNTAKEN, "no_worker"),
        (State.IDLE, Event.UNTAKEN, "join_timeout"),
    ],
)
def test_in_time_the_call_is_told_what_is_missing(state: State, cause: Event | None, code: str) -> None:
    assert failure_in_time(row(state, cause=cause)).code == code
