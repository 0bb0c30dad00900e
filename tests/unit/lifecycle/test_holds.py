"""Holds: what a dispatch hands on to its hold, and what begins anew when it is resumed."""

from dataclasses import replace

import pytest

from app.lifecycle import (
    SECOND_US,
    Briefing,
    Decision,
    Dispatch,
    EndReason,
    Event,
    Policy,
    Signal,
    State,
    Terms,
    decide,
    due_event,
)
from fakes.dispatches import INTENT, NOW

LATER = NOW + 3_600 * SECOND_US
TERMS = Terms(
    ttl_us=300 * SECOND_US,
    join_timeout_us=15 * SECOND_US,
    max_session_us=600 * SECOND_US,
    deployments=("v2", "v1"),
)
POLICY = Policy(default=TERMS, interval_us=60 * SECOND_US)
ACTIVE = replace(
    INTENT,
    dispatch_id="AD_1",
    state=State.ACTIVE,
    participant_count=1,
    agent_identity="agent-AJ_1",
    agent_joined_at=NOW,
    briefing=Briefing(metadata="told", deployment="v2"),
    terms=TERMS,
    session_ends_at=NOW + 600 * SECOND_US,
    restarts=2,
    restarts_since=NOW,
)


def _decide(dispatch: Dispatch, event: Event, now: int) -> Decision:
    return decide(dispatch, Signal(event=event, successor_id="next"), now, POLICY)


def _hold(dispatch: Dispatch) -> Dispatch:
    held = _decide(dispatch, Event.HOLD_REQUESTED, NOW).successor
    assert held is not None
    return held


HELD = _hold(ACTIVE)


def test_a_hold_has_no_deadline_and_keeps_what_the_agent_was_told() -> None:
    assert (HELD.state, HELD.dispatch_id, HELD.agent_identity) == (State.ON_HOLD, None, None)
    assert (HELD.due_at, HELD.ttl_expires_at, HELD.session_ends_at) == (None, None, None)
    assert due_event(HELD, LATER) is None
    assert (HELD.briefing, HELD.terms, HELD.succeeds) == (ACTIVE.briefing, TERMS, "row")


def test_a_resumed_dispatch_begins_anew() -> None:
    resumed = _decide(HELD, Event.RESUMED, LATER).dispatch
    assert (resumed.state, resumed.id, resumed.created_at) == (State.CREATING, HELD.id, LATER)
    assert (resumed.attempt, resumed.restarts, resumed.restarts_since) == (1, 0, None)
    assert (resumed.briefing, resumed.terms) == (ACTIVE.briefing, TERMS)
    # The session begins with the agent that comes, whatever was left of the one before.
    assert resumed.session_ends_at is None


def test_the_attempts_from_before_a_hold_do_not_count() -> None:
    unavailable = replace(ACTIVE, state=State.UNAVAILABLE, dispatch_id=None, agent_identity=None, attempt=5)
    held = _decide(unavailable, Event.HOLD_REQUESTED, NOW).dispatch
    assert held.state is State.ON_HOLD
    assert _decide(held, Event.RESUMED, LATER).dispatch.attempt == 1


def test_the_ttl_runs_from_the_resume_where_nobody_is_in() -> None:
    empty = decide(HELD, Signal(event=Event.PEOPLE_OUT, people=0), NOW, POLICY).dispatch
    resumed = _decide(empty, Event.RESUMED, LATER).dispatch
    assert resumed.ttl_expires_at == LATER + TERMS.ttl_us
    # Who comes now returns to no agent: nothing is learned from how long the hold lasted.
    assert (empty.vacated_at, resumed.vacated_at) == (NOW, None)


@pytest.mark.parametrize(
    ("told", "failing", "expected"),
    [
        (None, (), Briefing(metadata="told", deployment="v2")),
        (Briefing(metadata="new"), (), Briefing(metadata="new", deployment="v2")),
        (Briefing(metadata="new", deployment="v3"), (), Briefing(metadata="new", deployment="v3")),
        (None, ("v2",), Briefing(metadata="told", deployment="v1")),
    ],
)
def test_the_resumed_agent_is_told_what_the_call_says_on_a_deployment_that_works(
    told: Briefing | None, failing: tuple[str, ...], expected: Briefing
) -> None:
    policy = replace(POLICY, failing={("agent", one): 10**18 for one in failing})
    resumed = decide(HELD, Signal(event=Event.RESUMED, briefing=told), LATER, policy)
    assert resumed.dispatch.briefing == expected


@pytest.mark.parametrize("reason", [EndReason.EXPIRED, EndReason.REQUESTED, EndReason.MAX_SESSION])
def test_what_is_ending_keeps_its_reason_and_is_followed_by_the_hold(reason: EndReason) -> None:
    ending = replace(ACTIVE, state=State.ENDING, end_reason=reason, retry_at=LATER)
    decision = _decide(ending, Event.HOLD_REQUESTED, NOW)
    assert (decision.dispatch.state, decision.dispatch.end_reason) == (State.ENDING, reason)
    assert decision.dispatch.retry_at == LATER
    assert decision.effects == ()
    assert decision.successor is not None
    assert decision.successor.state is State.ON_HOLD
