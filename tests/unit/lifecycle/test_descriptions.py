"""Descriptions of the timeline: complete, and a fallback for unknown events."""

from app.lifecycle import EndReason, Event, State
from app.lifecycle.descriptions import END_REASONS, EVENTS, INTENT, STATES, describe


def test_every_event_state_and_end_reason_has_a_description() -> None:
    assert set(EVENTS) == {INTENT, *Event}
    assert set(STATES) == set(State)
    assert set(END_REASONS) == set(EndReason)


def test_the_first_line_of_a_successor_names_the_takeover() -> None:
    assert describe("intent", None) == EVENTS[INTENT]
    assert describe("agent_lost", "active") == EVENTS[Event.AGENT_LOST]
    assert describe("agent_lost", None).startswith(
        "This dispatch took over from an earlier one. The agent was lost"
    )


def test_an_unknown_event_is_described_by_its_name() -> None:
    assert describe("brand_new", "idle") == "brand_new"
