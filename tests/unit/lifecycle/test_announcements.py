"""What each change of a dispatch is announced as, against a table written by hand."""

from dataclasses import replace
from itertools import product

import pytest

from app.lifecycle import Dispatch, EndReason, Event, Signal, State, decide
from app.lifecycle.announcements import Announcement, Topic, announcements
from fakes.dispatches import INTENT, NOW
from fakes.tables import POLICY, STATES, parse

#: A cell lists topics, and after `>` those of the successor; `.` means none. An event that is not listed is
#: announced in no state. The row follows from its state as in test_table.py: active has a person.
EXPECTED = """
event            C             S              A            I            U         H         E         X
dispatched       dispatched    dispatched     dispatched   dispatched   dispatched .        dispatched .
not_dispatched   ended>unavailable .          .            .            .         .         .         .
people_out       .             .              idle         .            .         .         .         .
agent_in         .             idle           .            .            .         .         .         .
ready            .             .              ready        ready        .         .         .         .
room_finished    ended         ended          ended        ended        ended     ended     ended     .
reused           .             reused         reused       reused       requested .         .         .
end_requested    .             .              .            .            ended     ended     .         .
superseded       replaced      replaced       replaced     replaced     ended     .         .         .
hold_requested   .>held        .>held         .>held       .>held       held      .         .>held    .
resumed          .             .              .            .            .         requested .         .
refuted          .             replaced       replaced     replaced     .         .         .         .
missing          .             ended          ended        ended        .         .         ended     .
duplicate        .             .              .            .            ended     .         .         .
ttl_expired      .             .              .            .            ended     .         .         .
warned           .             .              warned       warned       .         .         .         .
session_over     .             .              .            .            ended     .         .         .
removed          .             .              .            .            .         .         ended     .
"""


CELLS = parse(EXPECTED)


def row(state: State, **fields: object) -> Dispatch:
    over = state in (State.ENDING, State.ENDED)
    made = replace(
        INTENT,
        state=state,
        participant_count=1 if state is State.ACTIVE else 0,
        agent_identity="agent-AJ_1" if state in (State.ACTIVE, State.IDLE) else None,
        succeeds="previous",
        end_reason=EndReason.REQUESTED if over else None,
        ended_at=NOW if state is State.ENDED else None,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def topics(found: tuple[Announcement, ...]) -> str:
    return "+".join(topic.removeprefix("agent.") for topic, _ in found) or "."


def announced(before: Dispatch, event: Event) -> tuple[str, tuple[Announcement, ...]]:
    """The topics of a change and of its successor as a cell has them; and those of the change."""
    signal = Signal(
        event=event,
        people={Event.PEOPLE_IN: 1, Event.PEOPLE_OUT: 0}.get(event),
        agent_identity="agent-AJ_1" if event in (Event.AGENT_IN, Event.READY) else None,
        dispatch_id="AD_1" if event is Event.DISPATCHED else None,
        successor_id="next",
    )
    decision = decide(before, signal, NOW, POLICY)
    if decision.dispatch.version == before.version:
        return ".", ()
    own = announcements(before, decision.dispatch, event)
    successor = announcements(None, decision.successor, event) if decision.successor else ()
    return topics(own) + (f">{topics(successor)}" if successor else ""), own


@pytest.mark.parametrize(("event", "state"), [*product(Event, State)])
def test_each_event_in_each_state_is_announced_as_the_table_says(event: Event, state: State) -> None:
    letter = next(letter for letter, name in STATES.items() if name == state)
    # With a person in, a rejected dispatch is one that somebody waits for.
    waits = {"participant_count": 1} if event is Event.NOT_DISPATCHED else {}
    cell, _ = announced(row(state, **waits), event)
    assert cell == CELLS.get((event, letter), ".")


def test_the_table_has_every_topic() -> None:
    said = {part for cell in CELLS.values() for piece in cell.split(">") for part in piece.split("+")}
    assert {f"agent.{part}" for part in said - {"."}} == set(Topic)


def test_a_new_dispatch_is_a_request_unless_it_takes_over() -> None:
    fresh = row(State.CREATING, succeeds=None)
    assert announcements(None, fresh, "intent") == (Announcement(Topic.REQUESTED),)
    assert announcements(None, row(State.CREATING), Event.AGENT_LOST) == ()


def test_a_dispatch_of_another_program_is_requested_and_there() -> None:
    adopted = row(State.CREATING, succeeds=None, dispatch_id="AD_1")
    found = announcements(None, adopted, "intent")
    assert found == (Announcement(Topic.REQUESTED, "adopted"), Announcement(Topic.DISPATCHED))
    # LiveKit's answer brings nothing new then.
    assert announced(adopted, Event.DISPATCHED)[0] == "."


@pytest.mark.parametrize("event", [Event.UNTAKEN, Event.JOIN_OVERDUE])
@pytest.mark.parametrize("people", [0, 1])
def test_the_last_try_in_vain_is_announced_with_or_without_people(event: Event, people: int) -> None:
    last = row(State.STARTING, attempt=POLICY.max_attempts, participant_count=people)
    assert announced(last, event)[0] == ".>unavailable"
    assert announced(replace(last, attempt=1), event)[0] == "."


def test_an_agent_that_stands_by_for_nobody_is_not_unavailable() -> None:
    assert announced(row(State.IDLE), Event.DRAINED)[0] == "."
    assert announced(row(State.IDLE), Event.AGENT_LOST)[0] == "."


def test_an_agent_that_was_ready_is_not_ready_again_unless_it_is_another_one() -> None:
    ready = row(State.ACTIVE, ready_at=NOW)
    assert announced(ready, Event.REUSED)[0] == "reused"
    another = decide(ready, Signal(event=Event.AGENT_IN, agent_identity="agent-AJ_2"), NOW, POLICY).dispatch
    assert announcements(ready, another, Event.AGENT_IN) == ()
    answers = Signal(event=Event.READY, agent_identity="agent-AJ_2")
    after = decide(another, answers, NOW, POLICY).dispatch
    assert announcements(another, after, Event.READY) == (Announcement(Topic.READY),)


def test_a_warm_agent_of_an_empty_room_is_dispatched_and_idle_at_once() -> None:
    signal = Signal(event=Event.DISPATCHED, dispatch_id="AD_1", agent_identity="agent-AJ_1")
    before = row(State.CREATING)
    after = decide(before, signal, NOW, POLICY).dispatch
    assert topics(announcements(before, after, Event.DISPATCHED)) == "dispatched+idle"


@pytest.mark.parametrize(
    ("state", "event", "reason"),
    [
        (State.UNAVAILABLE, Event.END_REQUESTED, "requested"),
        (State.ACTIVE, Event.ROOM_FINISHED, "room_finished"),
        (State.ACTIVE, Event.REFUTED, "refuted"),
        (State.ACTIVE, Event.SUPERSEDED, "superseded"),
        (State.ON_HOLD, Event.RESUMED, "resumed"),
        (State.ENDING, Event.REMOVED, "requested"),
    ],
)
def test_the_reason_is_that_of_the_end_or_of_the_event(state: State, event: Event, reason: str) -> None:
    _, (announcement,) = announced(row(state), event)
    assert announcement.reason == reason
