"""Spans of agents: when they begin and end, and which transitions end none."""

from dataclasses import replace

import pytest

from app.lifecycle import UNTOLD, Event, State
from app.state.changes import Due, Outcome, Transition
from app.state.trace_context import within
from fakes.clock import SECOND_US, FakeClock
from fakes.dispatches import INTENT, NOW
from fakes.spans import Spans

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
TRACED = replace(INTENT, briefing=within(UNTOLD, TRACE))
STARTING = replace(
    TRACED, state=State.STARTING, created_at=NOW, dispatched_at=NOW, join_deadline_at=NOW + 15 * SECOND_US
)
JOINED_AT = NOW + 2 * SECOND_US
ACTIVE = replace(STARTING, state=State.ACTIVE, agent_joined_at=JOINED_AT, join_deadline_at=None)


@pytest.fixture
def spans() -> Spans:
    return Spans(FakeClock())


def follow(spans: Spans, transition: Transition) -> list[tuple[str, int, int]]:
    """The spans that come of it, in seconds since NOW."""
    due = Due(room_name=INTENT.room_name, row_id=INTENT.id)
    spans.open().follow(due, Outcome(transitions=(transition,)))
    return [(span.name, seconds(span.start_time or 0), seconds(span.end_time or 0)) for span in spans.all()]


def seconds(at_ns: int) -> int:
    return (at_ns // 1_000 - NOW) // SECOND_US


@pytest.mark.parametrize(
    ("ahead_s", "began_s"), [(0, 0), (1, 1), (3_600, 2), (-3_600, 0)], ids=["same", "1 s", "1 h", "-1 h"]
)
def test_a_clock_of_livekits_that_differs_makes_no_span_longer_than_it_was(
    spans: Spans, ahead_s: int, began_s: int
) -> None:
    before = replace(STARTING, dispatched_at=NOW + ahead_s * SECOND_US)
    after = replace(before, state=State.ACTIVE, agent_joined_at=JOINED_AT)

    joined = Transition(before=before, after=after, event=Event.AGENT_IN)

    assert follow(spans, joined) == [("agent.join", began_s, 2)]


def test_an_agent_of_a_publisher_is_not_on_its_way(spans: Spans) -> None:
    before = replace(STARTING, join_deadline_at=None)
    joined = Transition(before=before, after=ACTIVE, event=Event.AGENT_IN)
    assert follow(spans, joined) == []
    over = Transition(before=before, after=replace(before, state=State.ENDING), event=Event.END_REQUESTED)
    assert follow(spans, over) == []


def test_a_warm_agent_may_be_ready_as_it_joins(spans: Spans) -> None:
    creating = replace(TRACED, state=State.CREATING, created_at=NOW)
    both = replace(ACTIVE, ready_at=JOINED_AT + SECOND_US)
    assert follow(spans, Transition(before=creating, after=both, event=Event.DISPATCHED)) == [
        ("agent.join", 0, 2),
        ("agent.ready", 2, 3),
    ]


@pytest.mark.parametrize(
    "transition",
    [
        Transition(before=None, after=TRACED, event="intent"),
        Transition(before=TRACED, after=STARTING, event=Event.DISPATCHED),
        Transition(before=ACTIVE, after=replace(ACTIVE, participant_count=2), event=Event.PEOPLE_IN),
        Transition(
            before=replace(ACTIVE, ready_at=NOW),
            after=replace(ACTIVE, ready_at=NOW, state=State.ENDING),
            event=Event.AGENT_LOST,
        ),
        Transition(
            before=replace(STARTING, state=State.ENDING),
            after=replace(STARTING, state=State.ENDED),
            event=Event.REMOVED,
        ),
        Transition(
            before=replace(STARTING, briefing=UNTOLD),
            after=replace(ACTIVE, briefing=UNTOLD),
            event=Event.AGENT_IN,
        ),
    ],
    ids=["new", "dispatched", "people", "after it was ready", "removed", "not traced"],
)
def test_what_ends_no_step_makes_no_span(spans: Spans, transition: Transition) -> None:
    assert follow(spans, transition) == []
