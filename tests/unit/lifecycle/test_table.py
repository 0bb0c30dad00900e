"""Every event in every state, against a table written by hand."""

from dataclasses import replace
from itertools import product

import pytest

from app.lifecycle import SECOND_US, Dispatch, Effect, EndReason, Event, Signal, State, decide
from fakes.dispatches import NOW
from fakes.tables import POLICY, STATES, parse

EFFECTS = {
    "c": Effect.CREATE,
    "r": Effect.REMOVE,
    "e": Effect.EXPIRE,
    "k": Effect.CHECK,
    "a": Effect.ALERT,
} | {"j": Effect.CHECK_JOB, "y": Effect.CHECK_READY, "w": Effect.WARN}

#: A cell is the target state, the effects, and after `>` the state of the successor; `.` means ignored.
#: The row follows from its state: active has a person and its agent, idle its agent alone, unavailable
#: succeeds another row, ending and ended have expired and had no agent. `_U` has a person who waits.
EXPECTED = """
event           C    S    A    I    U    _U   H    E    X
dispatched      S    S    A    I    S    S    .    E    .
not_dispatched  X    .    .    .    .    .    .    .    .
people_in       C    S    Ak   Ak   Cc   U    H    E    .
people_out      C    S    I    I    U    U    H    E    .
agent_in        C    Iy   Ay   Iy   .    .    .    .    .
ready           .    .    A    I    .    .    .    .    .
agent_left      Er   Er   Er   Er   .    .    .    .    .
agent_handed_over Er   Er   Er   Er   .    .    .    .    .
publisher_left  .    .    S    S    .    .    .    .    .
agent_lost      Er>U Er>U Er>C Er>U .    .    .    .    .
room_finished   X    X    X    X    X    X    X    X    .
reused          .    S    A    I    Cc   Cc   .    .    .
end_requested   Er   Er   Er   Er   X    X    X    E    .
superseded      Er   Er   Er   Er   X    X    .    .    .
hold_requested  Er>H Er>H Er>H Er>H H    H    .    E>H  .
resumed         .    .    .    .    .    .    Cc   .    .
drained         .    .    E>C  Er>U .    .    .    .    .
relief_awaited  .    .    .    .    .    .    .    E    .
relief_failed   .    .    .    .    .    .    .    E    .
relieved        .    .    .    .    .    .    .    Ee   .
policy_changed  C    S    A    I    U    U    H    .    .
refuted         .    Er>C Er>C Er>C .    .    .    .    .
missing         .    X>U  X>C  X>U  .    .    .    X    .
duplicate       Er   Er   Er   Er   X    X    .    .    .
untaken         .    Er>C .    .    .    .    .    .    .
held            .    S    .    .    .    .    .    .    .
join_overdue    .    Er>C .    .    .    .    .    .    .
ttl_expired     Ee   Ee   .    Ee   X    X    .    .    .
warning_due     .    .    Aw   Iw   .    .    .    .    .
warned          .    .    A    I    .    .    .    .    .
session_over    Er   Er   Er   Er   X    X    .    .    .
retry_due       Cc   Sj   .    .    U    Cc   .    Ee   .
occupied        .    .    .    .    .    .    .    S    .
removed         .    .    .    .    .    .    .    X    .
remove_failed   .    .    .    .    .    .    .    E    .
"""

#: The end reason that an event sets when it ends or claims a dispatch.
REASONS = {
    Event.NOT_DISPATCHED: EndReason.GONE,
    Event.AGENT_LEFT: EndReason.AGENT_LEFT,
    Event.AGENT_HANDED_OVER: EndReason.AGENT_LEFT,
    Event.AGENT_LOST: EndReason.AGENT_FAILED,
    Event.ROOM_FINISHED: EndReason.ROOM_FINISHED,
    Event.END_REQUESTED: EndReason.REQUESTED,
    Event.SUPERSEDED: EndReason.REPLACED,
    Event.HOLD_REQUESTED: EndReason.ON_HOLD,
    Event.DRAINED: EndReason.DRAINED,
    Event.REFUTED: EndReason.REPLACED,
    Event.MISSING: EndReason.GONE,
    Event.DUPLICATE: EndReason.DUPLICATE,
    Event.UNTAKEN: EndReason.NEVER_JOINED,
    Event.JOIN_OVERDUE: EndReason.NEVER_JOINED,
    Event.TTL_EXPIRED: EndReason.EXPIRED,
    Event.SESSION_OVER: EndReason.MAX_SESSION,
}


CELLS = parse(EXPECTED)
COLUMNS = {state: letter for letter, state in STATES.items()}
PAIRS = [
    *product(Event, State, [False]),
    *((event, State.UNAVAILABLE, True) for event in Event),
]


def _row(state: State, *, waited_for: bool) -> Dispatch:
    people = 1 if state is State.ACTIVE or waited_for else 0
    over = state in (State.ENDING, State.ENDED)
    return Dispatch(
        id="row",
        room_name="room",
        room_sid="RM_1",
        agent_name="agent",
        state=state,
        created_at=NOW - SECOND_US,
        last_activity_at=NOW - SECOND_US,
        participant_count=people,
        agent_identity="agent-AJ_1" if state in (State.ACTIVE, State.IDLE) else None,
        succeeds="previous" if state in (State.UNAVAILABLE, State.ON_HOLD) else None,
        end_reason=EndReason.EXPIRED if over else None,
        ended_at=NOW - SECOND_US if state is State.ENDED else None,
        version=7,
    )


def _signal(event: Event) -> Signal:
    people = {Event.PEOPLE_IN: 1, Event.PEOPLE_OUT: 0}.get(event)
    identity = "agent-AJ_1" if event in (Event.AGENT_IN, Event.READY) else None
    return Signal(event=event, people=people, agent_identity=identity, successor_id="next")


def test_the_expected_table_covers_every_event_and_state() -> None:
    assert {event for event, _ in CELLS} == set(Event)
    assert {column.removeprefix("_") for _, column in CELLS} == {COLUMNS[state] for state in State}


@pytest.mark.parametrize(("event", "state", "waited_for"), PAIRS)
def test_each_event_in_each_state_does_what_the_table_says(
    event: Event, state: State, *, waited_for: bool
) -> None:
    before = _row(state, waited_for=waited_for)
    cell = CELLS[event, ("_" if waited_for else "") + COLUMNS[state]]

    decision = decide(before, _signal(event), NOW, POLICY)

    if cell == ".":
        assert decision.dispatch == before
        assert (decision.effects, decision.successor) == ((), None)
        return
    outcome, _, successor = cell.partition(">")
    assert decision.dispatch.state == STATES[outcome[0]]
    assert decision.effects == tuple(EFFECTS[letter] for letter in outcome[1:])
    assert (decision.successor.state if decision.successor else None) == STATES.get(successor)


@pytest.mark.parametrize(("event", "state", "waited_for"), PAIRS)
def test_an_end_or_claim_has_the_reason_of_its_event(event: Event, state: State, *, waited_for: bool) -> None:
    before = _row(state, waited_for=waited_for)
    after = decide(before, _signal(event), NOW, POLICY).dispatch
    if after.version == before.version or after.state not in (State.ENDING, State.ENDED):
        return
    entered_by_this = before.state is not State.ENDING
    requested = event is Event.END_REQUESTED
    assert after.end_reason == (REASONS[event] if entered_by_this or requested else before.end_reason)


@pytest.mark.parametrize(("event", "state", "waited_for"), PAIRS)
def test_the_version_grows_by_one_unless_the_event_is_ignored(
    event: Event, state: State, *, waited_for: bool
) -> None:
    before = _row(state, waited_for=waited_for)
    column = ("_" if waited_for else "") + COLUMNS[state]
    grown = 0 if CELLS[event, column] == "." else 1
    assert decide(before, _signal(event), NOW, POLICY).dispatch.version == before.version + grown


@pytest.mark.parametrize(
    ("event", "state", "people", "succeeds", "expected", "successor"),
    [
        (Event.NOT_DISPATCHED, State.CREATING, 1, None, State.ENDED, None),
        (Event.NOT_DISPATCHED, State.CREATING, 1, "previous", State.ENDED, State.UNAVAILABLE),
        (Event.PEOPLE_OUT, State.CREATING, 1, None, State.CREATING, None),
        (Event.PEOPLE_OUT, State.CREATING, 1, "previous", State.UNAVAILABLE, None),
        (Event.AGENT_IN, State.STARTING, 2, None, State.ACTIVE, None),
        (Event.AGENT_LOST, State.CREATING, 1, None, State.ENDING, State.CREATING),
        (Event.AGENT_LOST, State.STARTING, 1, None, State.ENDING, State.CREATING),
        (Event.MISSING, State.STARTING, 1, None, State.ENDED, State.CREATING),
        (Event.JOIN_OVERDUE, State.STARTING, 0, None, State.ENDING, State.CREATING),
        (Event.REMOVED, State.ENDING, 1, None, State.ENDED, State.CREATING),
    ],
)
def test_a_goal_is_resolved_from_the_row(
    event: Event,
    state: State,
    people: int,
    succeeds: str | None,
    expected: State,
    successor: State | None,
) -> None:
    before = replace(_row(state, waited_for=False), participant_count=people, succeeds=succeeds)
    decision = decide(before, _signal(event), NOW, POLICY)
    assert decision.dispatch.state is expected
    assert (decision.successor.state if decision.successor else None) is successor
