"""The trace in the attributes of a dispatch."""

import json

import pytest

from app.lifecycle import UNTOLD, Briefing
from app.state.trace_context import TRACE_ATTRIBUTES, trace_id_of, trace_of, within

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "tracestate": "vendor=1"}
LATER = {"traceparent": "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_a_briefing_gives_back_the_trace_that_it_was_given() -> None:
    briefing = within(Briefing(metadata="m", attributes='{"a":"b"}', deployment="d"), TRACE)

    assert trace_of(briefing) == TRACE
    assert trace_id_of(briefing) == TRACE_ID
    assert (briefing.metadata, briefing.deployment) == ("m", "d")
    assert json.loads(briefing.attributes) == {
        "a": "b",
        "agent-lifecycle.traceparent": TRACE["traceparent"],
        "agent-lifecycle.tracestate": "vendor=1",
    }


def test_a_later_trace_takes_the_place_of_all_of_the_former_one() -> None:
    assert trace_of(within(within(UNTOLD, TRACE), LATER)) == LATER


def test_without_a_trace_nothing_changes() -> None:
    briefing = Briefing(attributes='{ "a" : "b" }')
    assert within(briefing, {}) is briefing
    assert trace_of(briefing) == {}
    assert trace_of(UNTOLD) == {}
    assert trace_id_of(UNTOLD) is None


@pytest.mark.parametrize(
    "text", ["", "nonsense", f"00-{TRACE_ID}", f"00-{TRACE_ID.upper()}-b7ad6b7169203331-01"]
)
def test_what_is_no_traceparent_has_no_id(text: str) -> None:
    assert trace_id_of(Briefing(attributes=json.dumps({TRACE_ATTRIBUTES[0]: text}))) is None
