"""What the terms of a dispatch decide: which TTL runs, and what a changed policy does to what runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import (
    LIVE_STATES,
    SECOND_US,
    Dispatch,
    Event,
    Policy,
    Restart,
    Signal,
    State,
    Terms,
    Visitors,
    decide,
    open_dispatch,
)
from fakes.dispatches import INTENT, NOW

TTL, UNVISITED, PHONE, SESSION = 300 * SECOND_US, 40 * SECOND_US, 5 * SECOND_US, 600 * SECOND_US
TERMS = Terms(
    ttl_us=TTL,
    unvisited_ttl_us=UNVISITED,
    phone_ttl_us=PHONE,
    max_session_us=SESSION,
    warn_before_us=30 * SECOND_US,
    join_timeout_us=15 * SECOND_US,
)
OTHERS = Terms(ttl_us=20 * SECOND_US, join_timeout_us=15 * SECOND_US, restart=Restart.ALWAYS)
POLICY = Policy(default=OTHERS, agents={"agent": TERMS}, interval_us=60 * SECOND_US)


def after(dispatch: Dispatch, *signals: Signal, now: int = NOW, policy: Policy = POLICY) -> Dispatch:
    for signal in signals:
        dispatch = decide(dispatch, replace(signal, successor_id="next"), now, policy).dispatch
    return dispatch


def people(count: int, phones: int = 0) -> Signal:
    return Signal(event=Event.PEOPLE_IN if count else Event.PEOPLE_OUT, people=count, phones=phones)


DISPATCHED = Signal(event=Event.DISPATCHED, dispatch_id="AD_1", dispatched_at=NOW)
AGENT_IN = Signal(event=Event.AGENT_IN, agent_identity="agent-AJ_1")
IDLE = after(open_dispatch(INTENT, NOW, POLICY), DISPATCHED, AGENT_IN)


def ttl_after(*signals: Signal) -> int | None:
    expires_at = after(IDLE, *signals).ttl_expires_at
    return None if expires_at is None else expires_at - NOW


def test_each_agent_name_has_its_own_terms() -> None:
    assert open_dispatch(INTENT, NOW, POLICY).terms == TERMS
    assert open_dispatch(replace(INTENT, agent_name="other"), NOW, POLICY).terms == OTHERS


@pytest.mark.parametrize(
    ("signals", "ttl_us"),
    [
        ([], UNVISITED),
        ([people(1)], None),
        ([people(1), people(0)], TTL),
        ([people(1, phones=1), people(0)], PHONE),
        ([people(2, phones=1), people(1, phones=1), people(0)], TTL),
        ([people(1, phones=1), people(2, phones=2), people(0)], PHONE),
        ([people(1, phones=1), people(0), people(1), people(0)], TTL),
        ([people(1), people(0), people(1, phones=1), people(0)], TTL),
    ],
)
def test_the_ttl_depends_on_who_was_in(signals: list[Signal], ttl_us: int | None) -> None:
    assert ttl_after(*signals) == ttl_us


def test_without_ttls_of_their_own_the_empty_room_and_the_telephone_have_the_ordinary_one() -> None:
    plain = replace(INTENT, agent_name="other")
    idle = after(open_dispatch(plain, NOW, POLICY), DISPATCHED, AGENT_IN)
    assert idle.ttl_expires_at == NOW + OTHERS.ttl_us
    hung_up = after(idle, people(1, phones=1), people(0))
    assert hung_up.ttl_expires_at == NOW + OTHERS.ttl_us


def test_a_hang_up_can_be_final() -> None:
    final = replace(IDLE, terms=replace(TERMS, phone_ttl_us=0))
    hung_up = after(final, people(1, phones=1), people(0))
    assert (hung_up.state, hung_up.due_at) == (State.IDLE, NOW)


def test_people_of_an_unknown_kind_may_come_back() -> None:
    counted = after(IDLE, Signal(event=Event.PEOPLE_IN, people=1), people(0))
    assert counted.visitors is Visitors.OTHERS


def test_a_successor_keeps_terms_visitors_and_the_end_of_the_session() -> None:
    met = after(IDLE, people(1, phones=1))
    successor = decide(met, Signal(event=Event.AGENT_LOST, successor_id="next"), NOW, POLICY).successor
    assert successor is not None
    kept = (successor.terms, successor.visitors, successor.session_ends_at)
    assert kept == (TERMS, Visitors.PHONES, NOW + SESSION)


def test_the_session_of_an_adopted_agent_begins_with_its_adoption() -> None:
    found = replace(INTENT, dispatch_id="AD_1", agent_identity="agent-AJ_1", agent_joined_at=NOW - 10**12)
    adopted = after(open_dispatch(found, NOW, POLICY), Signal(event=Event.DISPATCHED))
    assert (adopted.state, adopted.session_ends_at) == (State.IDLE, NOW + SESSION)


def test_a_removal_that_found_somebody_is_not_tried_again_at_once() -> None:
    """LiveKit lists who hangs up for a moment more; with a TTL of 0 it would be asked without a pause."""
    hung_up = after(replace(IDLE, terms=replace(TERMS, phone_ttl_us=0)), people(1, phones=1), people(0))
    healed = after(hung_up, Signal(event=Event.TTL_EXPIRED), Signal(event=Event.OCCUPIED, people=0, phones=0))
    assert (healed.state, healed.due_at) == (State.IDLE, NOW + POLICY.healed_wait_us)


@pytest.mark.parametrize(
    ("before_the_end_us", "soon"), [(31 * SECOND_US, False), (30 * SECOND_US, True), (-SECOND_US, True)]
)
def test_a_session_ends_soon_in_the_time_of_its_warning(
    before_the_end_us: int,
    soon: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert IDLE.ends_soon(NOW + SESSION - before_the_end_us) is soon
    unlimited = after(IDLE, Signal(event=Event.POLICY_CHANGED, terms=OTHERS))
    assert not unlimited.ends_soon(NOW + SESSION - before_the_end_us)


def test_a_warning_is_repeated_until_it_is_heard_or_the_session_is_over() -> None:
    due = after(IDLE, people(1), Signal(event=Event.WARNING_DUE), now=NOW + SESSION - 30 * SECOND_US)
    assert due.warn_at == NOW + SESSION - 30 * SECOND_US + POLICY.warn_again_us
    heard = after(due, Signal(event=Event.WARNED))
    assert (heard.warn_at, heard.due_at) == (None, NOW + SESSION)
    last = after(due, Signal(event=Event.WARNING_DUE), now=NOW + SESSION - POLICY.warn_again_us)
    assert (last.warn_at, last.due_at) == (None, NOW + SESSION)


# A policy that changes


def test_a_changed_policy_does_not_touch_what_runs() -> None:
    changed = replace(POLICY, agents={"agent": OTHERS})
    left = after(IDLE, people(1), people(0), policy=changed)
    assert (left.terms, left.ttl_expires_at) == (TERMS, NOW + TTL)


def test_a_row_without_terms_takes_those_of_today_once() -> None:
    former = replace(IDLE, terms=None)
    met = after(former, people(1))
    assert met.terms == TERMS
    assert after(met, people(0), policy=replace(POLICY, agents={"agent": OTHERS})).terms == TERMS


def test_terms_for_what_runs_move_its_deadlines() -> None:
    longer = replace(TERMS, unvisited_ttl_us=UNVISITED + SECOND_US, max_session_us=SESSION + 7)
    changed = after(IDLE, Signal(event=Event.POLICY_CHANGED, terms=longer), now=NOW + 9)
    assert changed.ttl_expires_at == NOW + UNVISITED + SECOND_US
    assert changed.session_ends_at == NOW + SESSION + 7
    assert changed.warn_at == NOW + SESSION + 7 - TERMS.warn_before_us
    unlimited = after(IDLE, Signal(event=Event.POLICY_CHANGED, terms=OTHERS))
    assert (unlimited.session_ends_at, unlimited.warn_at) == (None, None)
    limited = after(unlimited, Signal(event=Event.POLICY_CHANGED, terms=TERMS), now=NOW + 9)
    assert limited.session_ends_at == NOW + SESSION


@pytest.mark.parametrize("warns", [True, False])
def test_a_new_limit_ends_no_agent_that_has_not_been_warned(
    warns: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    short = replace(TERMS, max_session_us=60 * SECOND_US, warn_before_us=30 * SECOND_US if warns else 0)
    for before in (TERMS, OTHERS):
        long_in = after(replace(IDLE, session_ends_at=None, terms=before), people(1))
        now = NOW + 500 * SECOND_US
        limited = after(long_in, Signal(event=Event.POLICY_CHANGED, terms=short), now=now)
        assert limited.session_ends_at == now + short.warn_before_us
        assert limited.due_at == now
        assert limited.ends_soon(now)


def test_a_new_time_of_warning_is_that_of_what_runs() -> None:
    silent = replace(TERMS, warn_before_us=0)
    unwarned = after(IDLE, Signal(event=Event.POLICY_CHANGED, terms=silent))
    assert unwarned.warn_at is None
    changed = after(unwarned, Signal(event=Event.POLICY_CHANGED, terms=TERMS))
    assert changed.warn_at == NOW + SESSION - TERMS.warn_before_us


def test_the_same_terms_again_change_no_deadline() -> None:
    warned = after(IDLE, people(1), Signal(event=Event.WARNED))
    again = after(warned, Signal(event=Event.POLICY_CHANGED, terms=TERMS), now=NOW + 9)
    assert replace(again, version=warned.version) == warned


SECONDS = st.integers(0, 500).map(lambda seconds: seconds * SECOND_US)
ANY_TERMS = st.builds(
    Terms,
    ttl_us=SECONDS,
    unvisited_ttl_us=st.none() | SECONDS,
    phone_ttl_us=st.none() | SECONDS,
    max_session_us=st.none() | SECONDS,
    warn_before_us=SECONDS,
    join_timeout_us=SECONDS,
    restart=st.sampled_from(Restart),
)
ANY_SIGNAL = st.one_of(
    st.builds(people, st.integers(1, 3), st.integers(0, 3)),
    st.just(people(0)),
    st.just(AGENT_IN),
    st.just(DISPATCHED),
    st.builds(Signal, event=st.just(Event.POLICY_CHANGED), terms=ANY_TERMS),
    st.builds(
        Signal,
        event=st.sampled_from(
            sorted(set(Event) - {Event.PEOPLE_IN, Event.PEOPLE_OUT, Event.AGENT_IN, Event.DISPATCHED})
        ),
    ),
)


@given(terms=ANY_TERMS, steps=st.lists(st.tuples(ANY_SIGNAL, SECONDS), max_size=25))
def test_whatever_the_terms_only_a_limit_or_a_ttl_is_set(
    terms: Terms, steps: list[tuple[Signal, int]]
) -> None:
    """A session that has begun ends, unless the policy has no limit; and no TTL runs with people in."""
    policy = replace(POLICY, agents={"agent": terms})
    dispatch, now = open_dispatch(INTENT, NOW, policy), NOW
    for signal, passed_us in steps:
        now += passed_us
        decision = decide(dispatch, replace(signal, successor_id="next"), now, policy)
        dispatch = decision.successor or decision.dispatch
        is_live = dispatch.state in LIVE_STATES and dispatch.state is not State.ON_HOLD
        own = dispatch.terms or terms
        if is_live:
            assert (dispatch.ttl_expires_at is None) == (dispatch.participant_count > 0)
        if dispatch.state in (State.ACTIVE, State.IDLE):
            assert (dispatch.session_ends_at is not None) == (own.max_session_us is not None)
        if dispatch.warn_at is not None:
            assert dispatch.session_ends_at is not None
        if dispatch.state is State.ENDED:
            break
