"""The counters that metrics are read from, and the counts of the log."""

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from app.errors import LiveKitRefused
from app.lifecycle import TABLE, Dispatch, Event, Goal, State, Successor
from app.lifecycle.mode import Mode
from app.logs.counts import LogCounts
from app.metrics.collector import PREFIX, Histogram
from app.metrics.counters import Counters, SuppressedActions
from app.metrics.registry import Metrics
from app.state.changes import Transition
from fakes.clock import FakeClock

#: Lead to a state that depends on the row, `creating` among them.
_GOALS_OF_CREATING = (Goal.ATTEMPT, Goal.NEWCOMER)
_SUCCESSORS = (
    Successor.NEXT_ATTEMPT,
    Successor.RESTART,
    Successor.RESTART_ALWAYS,
    Successor.REPLACEMENT,
    Successor.COMEBACK,
)


def dispatch(state: State, **fields: str) -> Dispatch:
    return Dispatch(
        id="row",
        room_name="room",
        room_sid="RM_1",
        agent_name="agent",
        state=state,
        created_at=0,
        last_activity_at=0,
        **fields,  # type: ignore[arg-type]  # all of them are strings
    )


def births() -> list[Event]:
    return [
        event for event, rules in TABLE.items() if any(r.successor in _SUCCESSORS for r in rules.values())
    ]


def revivals() -> list[Event]:
    goals = (State.CREATING, *_GOALS_OF_CREATING)
    return [event for event, rules in TABLE.items() if any(rule.to in goals for rule in rules.values())]


@pytest.mark.parametrize("event", births())
def test_every_event_that_creates_a_successor_has_a_reason(event: Event) -> None:
    counters = Counters(mode=Mode.ENFORCE)
    counters.take([Transition(before=None, after=dispatch(State.CREATING), event=event)])
    assert counters.intended.total() == 1
    assert counters.replaced[event] == 1


@pytest.mark.parametrize("event", revivals())
def test_every_event_that_makes_an_unavailable_dispatch_retry_has_a_reason(event: Event) -> None:
    counters = Counters(mode=Mode.ENFORCE)
    change = Transition(before=dispatch(State.UNAVAILABLE), after=dispatch(State.CREATING), event=event)
    counters.take([change])
    assert counters.intended.total() == 1
    assert counters.replaced.total() == 0


def test_a_successor_that_waits_is_neither_intended_nor_a_restart() -> None:
    counters = Counters(mode=Mode.ENFORCE)
    counters.take([Transition(before=None, after=dispatch(State.UNAVAILABLE), event=Event.AGENT_LOST)])
    assert (counters.intended.total(), counters.restarts.total()) == (0, 0)


def test_in_observe_a_removal_is_not_counted() -> None:
    gone = Transition(before=dispatch(State.ENDING), after=dispatch(State.ENDED), event=Event.REMOVED)
    counts = []
    for mode in (Mode.OBSERVE, Mode.REUSE, Mode.ENFORCE):
        counters = Counters(mode=mode)
        counters.take([gone])
        counts.append(counters.cleanups["removed"])
    assert counts == [0, 1, 1]


def test_failed_creations_in_a_row_start_again_after_a_success() -> None:
    counters = Counters(mode=Mode.ENFORCE)
    seen = []
    outcomes: list[AbstractContextManager[Any]] = [
        pytest.raises(LiveKitRefused),
        pytest.raises(LiveKitRefused),
        nullcontext(),
    ]
    for outcome in outcomes:
        with outcome as refused, counters.creation():
            if refused is not None:
                raise LiveKitRefused("no")
        seen.append(counters.failed_creations_in_a_row)
    assert seen == [1, 2, 0]
    assert counters.creation_failures == {"livekit_refused": 2}


def test_log_lines_by_level_and_result() -> None:
    counts = LogCounts(
        written=Counter(info=3, error=1), dropped=Counter(debug=2), aggregated=Counter(warning=5)
    )
    metrics = Metrics(Counters(mode=Mode.ENFORCE), counts, FakeClock())

    def value(level: str, result: str) -> float | None:
        labels = {"level": level, "result": result}
        return metrics.registry.get_sample_value("agent_lifecycle_log_lines_total", labels)

    assert (value("info", "written"), value("error", "written")) == (3, 1)
    assert (value("debug", "dropped"), value("warning", "aggregated")) == (2, 5)
    counts.dropped["debug"] += 1
    assert value("debug", "dropped") == 3


def test_a_suppressed_action_on_a_subject_counts_once() -> None:
    suppressed = SuppressedActions()
    for subject in ("row", "row", "another"):
        suppressed.note("remove", subject)
    assert suppressed.counts == {"remove": 2}


def test_a_suppressed_action_without_a_subject_counts_each_time() -> None:
    suppressed = SuppressedActions()
    for _ in range(3):
        suppressed.count("reuse")
    assert suppressed.counts == {"reuse": 3}


def test_suppressed_actions_remember_a_bounded_number_of_subjects() -> None:
    suppressed = SuppressedActions()
    for number in range(20_000):
        suppressed.note("remove", str(number))
    suppressed.note("remove", "19999")
    assert suppressed.counts == {"remove": 20_000}
    assert len(suppressed._noted) == 10_000


VALUES = (0.0, 0.5, 1.0, 1.0001, 2.5, 2.5, 7.0, 1e9)


@pytest.mark.parametrize("labels", [(), ("method", "route")])
def test_a_histogram_reads_as_prometheus_clients_own_does(labels: tuple[str, ...]) -> None:
    bounds = (0.5, 1.0, 2.5)
    own_registry, their_registry = CollectorRegistry(), CollectorRegistry()
    own = Histogram("seconds", "Some time", labels, bounds)
    own_registry.register(own)
    theirs = prometheus_client.Histogram(
        f"{PREFIX}seconds", "Some time", labels, buckets=bounds, registry=their_registry
    )
    for value in VALUES:
        own.of(*("POST", "/a b")[: len(labels)]).observe(value)
        (theirs.labels("POST", "/a b") if labels else theirs).observe(value)
    for encode in (generate_latest, openmetrics.generate_latest):
        lines = encode(their_registry).decode().splitlines()
        assert encode(own_registry).decode().splitlines() == [
            line for line in lines if "_created" not in line
        ]


def test_two_histograms_of_one_name_are_rejected() -> None:
    registry = CollectorRegistry()
    registry.register(Histogram("seconds", "Some time", (), (1.0,)))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Histogram("seconds", "Another time", (), (1.0,)))
