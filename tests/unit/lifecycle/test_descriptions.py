"""The time line has words for whatever can happen."""

from app.lifecycle import EndReason, Event, State
from app.lifecycle.descriptions import END_REASONS, EVENTS, INTENT, STATES, describe


def test_there_are_words_for_each_event_state_and_reason() -> None:
    assert set(EVENTS) == {INTENT, *Event}
    assert set(STATES) == set(State)
    assert set(END_REASONS) == set(EndReason)


def test_a_dispatch_that_took_over_says_so() -> None:
    assert describe("intent", None) == EVENTS[INTENT]
    assert describe("agent_lost", "active") == EVENTS[Event.AGENT_LOST]
    assert describe("agent_lost", None).startswith(
        "It took over from an earlier dispatch. The agent was lost"
    )


def test_an_event_of_another_version_is_told_by_its_name() -> None:
    assert describe("brand_new", "idle") == "brand_new"
