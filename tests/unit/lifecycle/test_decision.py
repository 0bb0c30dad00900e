"""Deadlines, counts, attempts and restarts: what the table alone does not define."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import (
    LIVE_STATES,
    SECOND_US,
    Briefing,
    Decision,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Restart,
    Signal,
    State,
    Terms,
    decide,
    due_event,
    open_dispatch,
)
from fakes.dispatches import INTENT, NOW

TTL, JOIN, INTERVAL = 300 * SECOND_US, 15 * SECOND_US, 60 * SECOND_US
POLICY = Policy(default=Terms(ttl_us=TTL, join_timeout_us=JOIN), interval_us=INTERVAL)
AGENT = "agent-AJ_1"


def _after(dispatch: Dispatch, *signals: Signal | Event, now: int = NOW, policy: Policy = POLICY) -> Dispatch:
    for signal in signals:
        dispatch = _decide(dispatch, signal, now=now, policy=policy).dispatch
    return dispatch


def _decide(
    dispatch: Dispatch, signal: Signal | Event, *, now: int = NOW, policy: Policy = POLICY
) -> Decision:
    if isinstance(signal, Event):
        signal = Signal(event=signal, successor_id="next")
    return decide(dispatch, signal, now, policy)


def _successor(
    dispatch: Dispatch, signal: Signal | Event, *, now: int = NOW, policy: Policy = POLICY
) -> Dispatch:
    successor = _decide(dispatch, signal, now=now, policy=policy).successor
    assert successor is not None
    return successor


def _people(count: int) -> Signal:
    event = Event.PEOPLE_IN if count else Event.PEOPLE_OUT
    return Signal(event=event, people=count, successor_id="next")


AGENT_IN = Signal(event=Event.AGENT_IN, agent_identity=AGENT, successor_id="next")
CREATING = open_dispatch(INTENT, NOW, POLICY)
STARTING = _after(CREATING, Signal(event=Event.DISPATCHED, dispatch_id="AD_1", dispatched_at=NOW))
IDLE = _after(STARTING, AGENT_IN)
ACTIVE = _after(IDLE, _people(1))
EXPIRED = _after(IDLE, Event.TTL_EXPIRED, now=NOW + TTL)


def _invariants(dispatch: Dispatch) -> None:
    state = dispatch.state
    if state is State.ACTIVE or state is State.ENDED or dispatch.participant_count:
        assert dispatch.ttl_expires_at is None
    if state is State.ON_HOLD:
        assert dispatch.ttl_expires_at is None
    elif state in LIVE_STATES and not dispatch.participant_count:
        assert dispatch.ttl_expires_at is not None
    assert (dispatch.join_deadline_at is not None) == (state is State.STARTING)
    if dispatch.session_ends_at is None:
        assert (dispatch.due_at is None) == (state in (State.ACTIVE, State.ON_HOLD, State.ENDED))
    assert (dispatch.ended_at is not None) == (state is State.ENDED)
    assert (dispatch.end_reason is not None) == (state in (State.ENDING, State.ENDED))
    assert dispatch.participant_count >= 0
    assert dispatch.attempt >= 1
    assert 0 <= dispatch.restarts <= POLICY.max_restarts
    if state is State.ACTIVE:
        assert dispatch.participant_count > 0
    if state is State.IDLE:
        assert dispatch.participant_count == 0


# Deadlines


def test_a_new_dispatch_has_a_lease_and_a_ttl() -> None:
    assert (CREATING.retry_at, CREATING.ttl_expires_at) == (NOW + POLICY.lease_us, NOW + TTL)
    assert CREATING.due_at == NOW + POLICY.lease_us


def test_a_new_dispatch_in_a_room_with_people_has_no_ttl() -> None:
    assert open_dispatch(replace(INTENT, participant_count=1), NOW, POLICY).ttl_expires_at is None


def test_the_join_deadline_starts_with_the_dispatch_and_does_not_move() -> None:
    later = _after(STARTING, Event.REUSED, _people(1), _people(0), now=NOW + 5 * SECOND_US)
    assert STARTING.join_deadline_at == later.join_deadline_at == NOW + JOIN


def test_the_ttl_runs_from_the_last_leave() -> None:
    left = _after(ACTIVE, _people(0), now=NOW + 40 * SECOND_US)
    assert left.state is State.IDLE
    assert left.ttl_expires_at == left.due_at == NOW + 40 * SECOND_US + TTL


def test_a_call_restarts_the_ttl() -> None:
    reused = _after(IDLE, Event.REUSED, now=NOW + 100 * SECOND_US)
    assert reused.ttl_expires_at == NOW + 100 * SECOND_US + TTL


def test_other_events_do_not_move_the_ttl() -> None:
    """A duplicate webhook or LiveKit's late answer keeps no agent longer."""
    assert _after(IDLE, Event.DISPATCHED, AGENT_IN, now=NOW + 100 * SECOND_US).ttl_expires_at == NOW + TTL


def test_no_ttl_runs_while_people_are_in_the_room() -> None:
    assert ACTIVE.ttl_expires_at is None
    assert ACTIVE.due_at is None
    assert _after(STARTING, _people(2)).ttl_expires_at is None


def test_a_dispatch_that_no_person_joins_has_a_ttl() -> None:
    assert STARTING.ttl_expires_at == IDLE.ttl_expires_at == NOW + TTL


def test_only_people_and_calls_count_as_activity() -> None:
    later = NOW + SECOND_US
    assert _after(IDLE, _people(1), now=later).last_activity_at == later
    assert _after(IDLE, Event.REUSED, now=later).last_activity_at == later
    assert _after(IDLE, Event.DISPATCHED, now=later).last_activity_at == NOW


# LiveKit's answer and the agent, in either order


def test_the_agent_may_join_before_livekits_answer() -> None:
    early = _after(CREATING, AGENT_IN)
    assert early.state is State.CREATING
    answered = _after(early, Signal(event=Event.DISPATCHED, dispatch_id="AD_1", dispatched_at=NOW))
    assert answered == replace(IDLE, version=answered.version)


def test_livekits_answer_sets_the_dispatch_id_and_its_time() -> None:
    assert (STARTING.dispatch_id, STARTING.dispatched_at) == ("AD_1", NOW)


def test_an_answer_during_ending_stores_the_dispatch_id_for_the_removal() -> None:
    ending = _after(CREATING, Event.END_REQUESTED)
    answered = _after(ending, Signal(event=Event.DISPATCHED, dispatch_id="AD_1"))
    assert (answered.state, answered.dispatch_id) == (State.ENDING, "AD_1")


# The join watchdog


def test_the_third_dispatch_without_an_agent_is_followed_by_unavailable_and_an_alert() -> None:
    waiting = replace(STARTING, participant_count=1)
    states = []
    for _ in range(3):
        decision = _decide(waiting, Event.JOIN_OVERDUE)
        assert decision.dispatch.end_reason is EndReason.NEVER_JOINED
        assert decision.successor is not None
        states.append(
            (decision.successor.state, decision.successor.attempt, Effect.ALERT in decision.effects)
        )
        waiting = replace(decision.successor, state=State.STARTING)
    assert states == [
        (State.CREATING, 2, False),
        (State.CREATING, 3, False),
        (State.UNAVAILABLE, 3, True),
    ]


def test_an_unavailable_dispatch_is_retried_with_growing_waits_while_people_wait() -> None:
    waiting, waits = replace(STARTING, participant_count=1, attempt=3), []
    for _ in range(6):
        unavailable = _successor(waiting, Event.UNTAKEN)
        assert unavailable.due_at is not None
        waits.append((unavailable.due_at - NOW) // SECOND_US)
        retried = _decide(unavailable, Event.RETRY_DUE)
        assert (retried.dispatch.state, retried.effects) == (State.CREATING, (Effect.CREATE,))
        waiting = replace(retried.dispatch, state=State.STARTING)
    assert waits == [1, 2, 4, 8, 10, 10]


def test_the_alert_is_raised_once_and_not_for_each_retry() -> None:
    last = replace(STARTING, participant_count=1, attempt=3)
    assert Effect.ALERT in _decide(last, Event.UNTAKEN).effects
    assert Effect.ALERT not in _decide(replace(last, attempt=4), Event.UNTAKEN).effects


def test_a_crash_loop_is_retried_at_the_longest_wait() -> None:
    looping = replace(ACTIVE, restarts=3, restarts_since=NOW)
    assert _successor(looping, Event.AGENT_LOST).due_at == NOW + POLICY.longest_wait_us


def test_a_starting_dispatch_gets_one_check_of_its_job() -> None:
    """The check is due as soon as LiveKit shows whether a worker took the job."""
    at = NOW + POLICY.job_visible_us
    assert STARTING.due_at == at
    checked = _decide(STARTING, Event.RETRY_DUE, now=at)
    assert (checked.dispatch.state, checked.effects) == (State.STARTING, (Effect.CHECK_JOB,))
    assert checked.dispatch.due_at == NOW + JOIN


def test_an_unavailable_dispatch_in_an_empty_room_ends_at_its_ttl() -> None:
    unavailable = _successor(replace(STARTING, attempt=3), Event.JOIN_OVERDUE)
    assert (unavailable.retry_at, unavailable.due_at) == (None, NOW + TTL)
    ended = _after(unavailable, Event.TTL_EXPIRED)
    assert (ended.state, ended.end_reason) == (State.ENDED, EndReason.EXPIRED)


@pytest.mark.parametrize(
    ("attempt", "hold_s"), [(1, 30), (2, 60), (3, 120), (4, 240), (7, 600), (1_000, 600)]
)
def test_a_worker_that_holds_the_job_is_waited_for_longer_with_each_attempt(
    attempt: int, hold_s: int
) -> None:
    """So an agent that needs long to start gets in, and a frozen worker keeps people waiting only once."""
    waiting = replace(STARTING, attempt=attempt)
    assert POLICY.holds_until(waiting) == NOW + hold_s * SECOND_US


def test_a_held_dispatch_is_looked_at_again_each_join_timeout_until_the_wait_is_over() -> None:
    held = _after(STARTING, Event.HELD, now=NOW + JOIN)
    assert (held.state, held.join_deadline_at, held.attempt) == (State.STARTING, NOW + 2 * JOIN, 1)
    late = _after(STARTING, Event.HELD, now=NOW + 2 * JOIN - 1)
    assert late.join_deadline_at == NOW + 2 * JOIN


def test_a_dispatch_for_publishers_waits_for_one_without_a_deadline() -> None:
    policy = replace(POLICY, publisher_agents=frozenset({"agent"}))
    answer = Signal(event=Event.DISPATCHED, dispatch_id="AD_1", dispatched_at=NOW)
    waiting = _after(CREATING, answer, policy=policy)
    assert (waiting.state, waiting.join_deadline_at, waiting.retry_at) == (State.STARTING, None, None)
    assert waiting.due_at == NOW + TTL
    active = _after(waiting, AGENT_IN, _people(2), policy=policy)
    alone = _after(active, Event.PUBLISHER_LEFT, policy=policy)
    assert (alone.state, alone.agent_identity, alone.due_at) == (State.STARTING, None, None)
    assert _after(alone, AGENT_IN, policy=policy).state is State.ACTIVE


def test_a_successor_knows_what_became_of_the_one_before() -> None:
    assert _successor(STARTING, Event.JOIN_OVERDUE).cause == Event.JOIN_OVERDUE
    assert _successor(STARTING, Event.UNTAKEN).cause == Event.UNTAKEN
    assert _successor(ACTIVE, Event.AGENT_LOST).cause == Event.AGENT_LOST
    assert INTENT.cause is None


def test_an_agents_join_resets_the_attempts() -> None:
    assert _after(replace(STARTING, attempt=3), AGENT_IN).attempt == 1


def test_a_successor_keeps_the_callers_fields() -> None:
    told = Briefing(metadata="m", attributes='{"tier":"gold"}', deployment="blue")
    asked = replace(STARTING, timezone="Europe/Berlin", timezone_offset_min=60, briefing=told, terms=None)
    successor = _successor(asked, Event.JOIN_OVERDUE)
    assert (successor.timezone, successor.timezone_offset_min) == ("Europe/Berlin", 60)
    assert successor.briefing == told
    assert _successor(ACTIVE, Event.AGENT_LOST).former_agent == AGENT
    assert (successor.room_sid, successor.agent_name, successor.succeeds) == ("RM_1", "agent", "row")
    assert (successor.dispatch_id, successor.agent_identity, successor.version) == (None, None, 0)


def test_a_successor_does_not_restart_the_ttl() -> None:
    """Otherwise an unwanted agent that keeps dying would live for ever."""
    assert _successor(STARTING, Event.JOIN_OVERDUE, now=NOW + JOIN).ttl_expires_at == NOW + TTL


# Restarts


@pytest.mark.parametrize(
    ("restart", "event", "successor"),
    [
        (Restart.ALWAYS, Event.AGENT_LOST, State.CREATING),
        (Restart.ALWAYS, Event.AGENT_LEFT, State.CREATING),
        (Restart.ALWAYS, Event.AGENT_HANDED_OVER, None),
        (Restart.ON_FAILURE, Event.AGENT_HANDED_OVER, None),
        (Restart.ON_FAILURE, Event.AGENT_LOST, State.CREATING),
        (Restart.ON_FAILURE, Event.AGENT_LEFT, None),
        (Restart.NEVER, Event.AGENT_LOST, None),
        (Restart.NEVER, Event.AGENT_LEFT, None),
        (Restart.NEVER, Event.REFUTED, State.CREATING),
    ],
)
def test_agent_restart_decides_which_leaves_cause_a_restart(
    restart: Restart, event: Event, successor: State | None
) -> None:
    decision = _decide(replace(ACTIVE, terms=replace(POLICY.default, restart=restart)), event)
    assert (decision.successor.state if decision.successor else None) is successor


def test_a_fourth_restart_within_five_minutes_makes_the_dispatch_unavailable() -> None:
    agent = ACTIVE
    for number in (1, 2, 3):
        agent = replace(_successor(agent, Event.AGENT_LOST, now=NOW + number * SECOND_US), state=State.ACTIVE)
        assert agent.restarts == number
    decision = _decide(agent, Event.AGENT_LOST, now=NOW + 5 * SECOND_US)
    assert decision.successor is not None
    assert decision.successor.state is State.UNAVAILABLE
    assert decision.effects == (Effect.REMOVE, Effect.ALERT)


def test_the_restart_count_resets_after_its_window() -> None:
    looping = replace(ACTIVE, restarts=3, restarts_since=NOW)
    inside = _successor(looping, Event.AGENT_LOST, now=NOW + POLICY.restart_window_us)
    assert inside.state is State.UNAVAILABLE
    outside = _successor(looping, Event.AGENT_LOST, now=NOW + POLICY.restart_window_us + 1)
    assert (outside.state, outside.restarts) == (State.CREATING, 1)


def test_an_agent_that_dies_in_an_empty_room_is_replaced_when_a_person_joins() -> None:
    decision = _decide(IDLE, Event.AGENT_LOST)
    dormant = decision.successor
    assert dormant is not None
    assert (dormant.state, dormant.due_at) == (State.UNAVAILABLE, NOW + TTL)
    assert Effect.ALERT not in decision.effects
    woken = _decide(dormant, _people(1))
    assert (woken.dispatch.state, woken.effects) == (State.CREATING, (Effect.CREATE,))


def test_a_restart_becomes_unavailable_when_the_last_person_leaves() -> None:
    restarting = _successor(ACTIVE, Event.AGENT_LOST)
    assert _after(restarting, _people(0)).state is State.UNAVAILABLE


# Removal


def test_a_ttl_claim_checks_the_room_before_the_deletion() -> None:
    decision = _decide(IDLE, Event.TTL_EXPIRED)
    assert decision.effects == (Effect.EXPIRE,)
    assert decision.dispatch.due_at == NOW + POLICY.lease_us


def test_an_interrupted_claim_is_retried_after_its_lease_with_the_same_check() -> None:
    at = NOW + TTL + POLICY.lease_us
    again = _decide(EXPIRED, Event.RETRY_DUE, now=at)
    assert again.effects == (Effect.EXPIRE,)
    assert again.dispatch.due_at == at + POLICY.lease_us
    assert _decide(_after(ACTIVE, Event.END_REQUESTED), Event.RETRY_DUE).effects == (Effect.REMOVE,)


def test_people_found_before_the_deletion_cancel_the_claim() -> None:
    healed = _after(EXPIRED, Signal(event=Event.OCCUPIED, people=2))
    assert (healed.state, healed.participant_count, healed.end_reason) == (State.ACTIVE, 2, None)
    assert healed.due_at is None


def test_a_failed_removal_after_the_ttl_returns_to_idle_with_a_later_deadline() -> None:
    at = NOW + TTL + SECOND_US
    failed = _after(EXPIRED, Event.REMOVE_FAILED, now=at)
    assert (failed.state, failed.cleanup_failures, failed.end_reason) == (State.IDLE, 1, None)
    assert failed.due_at == at + INTERVAL
    assert due_event(failed, at) is None
    assert due_event(failed, at + INTERVAL) is Event.TTL_EXPIRED


def test_a_failed_removal_without_an_agent_stays_ending_and_is_retried() -> None:
    """Without an agent there is nothing to reuse in the meantime."""
    expired = _after(STARTING, Event.TTL_EXPIRED)
    failed = _after(expired, Event.REMOVE_FAILED)
    assert (failed.state, failed.end_reason, failed.due_at) == (
        State.ENDING,
        EndReason.EXPIRED,
        NOW + INTERVAL,
    )


def test_people_found_before_the_deletion_without_an_agent_return_it_to_starting() -> None:
    expired = _after(STARTING, Event.TTL_EXPIRED)
    healed = _after(expired, Signal(event=Event.OCCUPIED, people=1))
    assert (healed.state, healed.join_deadline_at) == (State.STARTING, NOW + JOIN)


@pytest.mark.parametrize("event", [Event.REMOVE_FAILED, Event.OCCUPIED])
@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.EXPIRED])
def test_a_claim_for_any_other_reason_stands(event: Event, reason: EndReason) -> None:
    claimed = replace(_after(ACTIVE, Event.END_REQUESTED), end_reason=reason)
    kept = _after(claimed, Signal(event=event, people=1), now=NOW + SECOND_US)
    assert (kept.state, kept.end_reason) == (State.ENDING, reason)
    if event is Event.REMOVE_FAILED:
        assert kept.due_at == NOW + SECOND_US + INTERVAL


def test_people_who_joined_during_the_removal_get_another_agent() -> None:
    claimed = _after(EXPIRED, _people(1))
    assert claimed.state is State.ENDING
    assert _successor(claimed, Event.REMOVED).state is State.CREATING


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.EXPIRED])
def test_a_removal_for_any_other_reason_has_no_successor(reason: EndReason) -> None:
    """A DELETE removes the agent even with people in the room; a replacement is already stored."""
    claimed = replace(_after(ACTIVE, Event.END_REQUESTED), end_reason=reason)
    assert _decide(claimed, Event.REMOVED).successor is None


def test_an_end_request_overrides_a_ttl_claim() -> None:
    requested = _after(EXPIRED, Event.END_REQUESTED)
    assert (requested.state, requested.end_reason) == (State.ENDING, EndReason.REQUESTED)
    assert _after(requested, Signal(event=Event.OCCUPIED, people=1)).state is State.ENDING


def test_a_claimed_dispatch_keeps_its_reason_when_its_room_finishes() -> None:
    ended = _after(EXPIRED, Event.ROOM_FINISHED)
    assert (ended.state, ended.end_reason, ended.ended_at) == (State.ENDED, EndReason.EXPIRED, NOW)


# Which deadline has passed


@pytest.mark.parametrize(
    ("dispatch", "at", "event"),
    [
        (CREATING, NOW + POLICY.lease_us, Event.RETRY_DUE),
        (STARTING, NOW + POLICY.job_visible_us, Event.RETRY_DUE),
        (STARTING, NOW + JOIN, Event.JOIN_OVERDUE),
        (STARTING, NOW + TTL, Event.TTL_EXPIRED),
        (IDLE, NOW + TTL, Event.TTL_EXPIRED),
        (EXPIRED, NOW + TTL + POLICY.lease_us, Event.RETRY_DUE),
        (_successor(replace(STARTING, attempt=3), Event.JOIN_OVERDUE), NOW + TTL, Event.TTL_EXPIRED),
        (
            _successor(replace(STARTING, attempt=3, participant_count=1), Event.JOIN_OVERDUE),
            NOW + POLICY.first_wait_us,
            Event.RETRY_DUE,
        ),
    ],
)
def test_a_deadline_is_due_at_its_microsecond_and_not_before(
    dispatch: Dispatch, at: int, event: Event
) -> None:
    assert due_event(dispatch, at) is event
    if dispatch.due_at == at:
        assert due_event(dispatch, at - 1) is None


@pytest.mark.parametrize("dispatch", [ACTIVE, _after(ACTIVE, Event.ROOM_FINISHED)])
def test_no_event_is_due_without_a_deadline(dispatch: Dispatch) -> None:
    assert due_event(dispatch, NOW + 10**15) is None


# Any sequence of signals


def _consistent(signal: Signal) -> Signal:
    """As DispatchSet makes signals: people are in after PEOPLE_IN and OCCUPIED, nobody after PEOPLE_OUT."""
    match signal.event:
        case Event.PEOPLE_IN | Event.OCCUPIED:
            return replace(signal, people=max(1, signal.people or 0))
        case Event.PEOPLE_OUT | Event.ROOM_FINISHED:
            return replace(signal, people=0)
        case Event.AGENT_IN:
            return replace(signal, people=None, agent_identity=signal.agent_identity or AGENT)
        case _:
            return replace(signal, people=None)


SIGNALS = st.builds(
    Signal,
    event=st.sampled_from(Event),
    people=st.none() | st.integers(0, 3),
    agent_identity=st.none() | st.sampled_from([AGENT, "agent-AJ_2"]),
    dispatch_id=st.none() | st.just("AD_1"),
    dispatched_at=st.none() | st.just(NOW),
    successor_id=st.just("next"),
).map(_consistent)


@given(
    steps=st.lists(st.tuples(SIGNALS, st.integers(0, 400)), max_size=30),
    restart=st.sampled_from(Restart),
    people=st.integers(0, 2),
)
def test_the_invariants_hold_for_any_sequence_of_signals(
    steps: list[tuple[Signal, int]], restart: Restart, people: int
) -> None:
    """A walk follows a dispatch to its end, and then its successor."""
    policy, now = replace(POLICY, default=replace(POLICY.default, restart=restart)), NOW
    dispatch = open_dispatch(replace(INTENT, participant_count=people), now, policy)
    for signal, seconds in steps:
        now += seconds * SECOND_US
        decision = decide(dispatch, signal, now, policy)
        ignored = decision.dispatch == dispatch
        assert decision.dispatch.version == dispatch.version + (not ignored)
        if ignored:
            assert (decision.effects, decision.successor) == ((), None)
        _invariants(decision.dispatch)
        if decision.successor:
            _invariants(decision.successor)
            assert decision.dispatch.state not in LIVE_STATES
        dispatch = decision.successor or decision.dispatch


@given(steps=st.lists(SIGNALS, max_size=20), people=st.integers(0, 2))
def test_deadlines_alone_end_any_dispatch_in_an_empty_room(steps: list[Signal], people: int) -> None:
    """If all deadlines fire and all effects succeed, the dispatch ends or has people in its room."""
    dispatch, now = open_dispatch(replace(INTENT, participant_count=people), NOW, POLICY), NOW
    for signal in steps:
        dispatch = decide(dispatch, signal, now, POLICY).dispatch
    for _ in range(60):
        if dispatch.participant_count or dispatch.state is State.ENDED:
            assert now <= NOW + TTL + max(INTERVAL, POLICY.lease_us)
            return
        assert dispatch.due_at is not None
        now = max(now, dispatch.due_at)
        event = due_event(dispatch, now)
        assert event is not None
        decision = decide(dispatch, Signal(event=event, successor_id="next"), now, POLICY)
        if decision.dispatch.state is State.ENDING and Effect.EXPIRE in decision.effects:
            decision = decide(decision.dispatch, Signal(event=Event.REMOVED), now, POLICY)
        if decision.dispatch.state is State.ENDING and not decision.successor:
            decision = decide(decision.dispatch, Signal(event=Event.REMOVED), now, POLICY)
        dispatch = decision.successor or decision.dispatch
    raise AssertionError(f"the dispatch is still {dispatch.state} after sixty deadlines")


@pytest.mark.parametrize(("event", "state"), list(product(Event, State)))
def test_the_invariants_hold_over_the_full_product(event: Event, state: State) -> None:
    rows = {
        State.CREATING: CREATING,
        State.STARTING: STARTING,
        State.ACTIVE: ACTIVE,
        State.IDLE: IDLE,
        State.UNAVAILABLE: _successor(replace(STARTING, attempt=3), Event.JOIN_OVERDUE),
        State.ON_HOLD: _successor(ACTIVE, Event.HOLD_REQUESTED),
        State.ENDING: EXPIRED,
        State.ENDED: _after(IDLE, Event.ROOM_FINISHED),
    }
    signal = _consistent(Signal(event=event, successor_id="next"))
    decision = decide(rows[state], signal, NOW + SECOND_US, POLICY)
    _invariants(decision.dispatch)
    if decision.successor:
        _invariants(decision.successor)


# Readiness


def _in_the_room(dispatch: Dispatch = INTENT) -> Dispatch:
    return _after(dispatch, Event.DISPATCHED, Signal(event=Event.AGENT_IN, agent_identity=AGENT))


def test_the_agent_that_answers_is_ready_from_its_first_answer() -> None:
    answer = Signal(event=Event.READY, agent_identity=AGENT)
    ready = _after(_in_the_room(), answer, now=NOW + SECOND_US)
    assert ready.ready_at == NOW + SECOND_US
    assert _after(ready, answer, now=NOW + 9 * SECOND_US) == ready


def test_the_answer_of_another_agent_changes_nothing() -> None:
    present = _in_the_room()
    assert _after(present, Signal(event=Event.READY, agent_identity="agent-AJ_0")) == present


@pytest.mark.parametrize("event", [Event.AGENT_IN, Event.PUBLISHER_LEFT])
def test_another_agent_has_to_answer_anew(event: Event) -> None:
    ready = _after(_in_the_room(), Signal(event=Event.READY, agent_identity=AGENT))
    decision = _decide(ready, Signal(event=event, agent_identity="agent-AJ_2"))
    assert decision.dispatch.ready_at is None
    assert decision.effects == ((Effect.CHECK_READY,) if event is Event.AGENT_IN else ())


def test_a_successor_has_to_answer_anew() -> None:
    ready = _after(_in_the_room(), Signal(event=Event.READY, agent_identity=AGENT), _people(1))
    assert _successor(ready, Event.AGENT_LOST).ready_at is None


def test_an_agent_that_joined_before_livekits_answer_is_checked_with_the_answer() -> None:
    early = _after(INTENT, Signal(event=Event.AGENT_IN, agent_identity=AGENT))
    assert _decide(early, Event.DISPATCHED).effects == (Effect.CHECK_READY,)


@pytest.mark.parametrize("event", [Event.MISSING, Event.AGENT_LOST, Event.REFUTED, Event.JOIN_OVERDUE])
def test_a_call_may_change_the_attributes_of_the_agent_that_it_gets_and_nothing_else(event: Event) -> None:
    state = State.STARTING if event is Event.JOIN_OVERDUE else State.ACTIVE
    told = Briefing(metadata="m", attributes='{"a":"b"}', deployment="blue")
    lost = replace(INTENT, state=state, briefing=told, participant_count=1)

    same = _successor(lost, Signal(event=event, successor_id="next"))
    other = _successor(lost, Signal(event=event, attributes='{"c":"d"}', successor_id="next"))

    assert same.briefing == told
    assert other.briefing == replace(told, attributes='{"c":"d"}')


@pytest.mark.parametrize(
    ("state", "event"), [(State.UNAVAILABLE, Event.REUSED), (State.ON_HOLD, Event.RESUMED)]
)
def test_so_may_one_that_lets_a_dispatch_begin_anew(state: State, event: Event) -> None:
    told = Briefing(metadata="m", attributes='{"a":"b"}', deployment="blue")
    waiting = replace(INTENT, state=state, briefing=told)

    assert _after(waiting, event).briefing == told
    changed = _after(waiting, Signal(event=event, attributes='{"c":"d"}'))
    assert changed.briefing == replace(told, attributes='{"c":"d"}')
