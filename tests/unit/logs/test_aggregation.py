"""Which lines are aggregated, and when the count is written."""

import logging

import pytest

from app.logs.aggregation import Aggregation
from fakes.log import FakeLog

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
AGAIN = "The same message was logged again"


@pytest.fixture
def log() -> FakeLog:
    return FakeLog(aggregation=Aggregation())


def test_a_repeated_message_is_written_twenty_times_in_ten_seconds_then_counted(log: FakeLog) -> None:
    for number in range(50):
        log.log("A room could not be looked at", WARNING, action="reconcile", room=f"room-{number}")
    assert len(log.written) == 20
    log.clock.advance(10)
    log.pipeline.report()
    line = log.lines()[20]
    assert line.pop("time")
    assert line == {
        "level": "warning",
        "logger": "app.test",
        "message": AGAIN,
        "action": "reconcile",
        "sentence": "A room could not be looked at",
        "repeated": 30,
        "seconds": 10,
    }
    assert (log.counts.written, log.counts.aggregated) == ({"warning": 20}, {"warning": 30})


def test_after_its_window_it_is_written_again(log: FakeLog) -> None:
    for _ in range(30):
        log.log()
    log.clock.advance(10)
    log.log()
    assert log.sentences()[20:] == [AGAIN, "Something happened"]


@pytest.mark.parametrize(
    "other", [{"logger": "app.other"}, {"level": WARNING}, {"message": "Another"}, {"action": "other"}]
)
def test_each_kind_of_message_has_its_own_count(log: FakeLog, other: dict[str, str]) -> None:
    for _ in range(20):
        log.log()
        log.log(**other)  # type: ignore[arg-type]
    assert len(log.written) == 40
    assert not log.counts.aggregated


def test_arguments_do_not_make_another_kind(log: FakeLog) -> None:
    for number in range(30):
        log.log("Number %s", INFO, number)
    assert log.counts.aggregated == {"info": 10}


@pytest.mark.parametrize(
    ("level", "action"),
    [(ERROR, None), (INFO, "dispatch"), (INFO, "reuse"), (INFO, "transition")],
)
def test_errors_and_the_lifecycle_are_never_aggregated(log: FakeLog, level: int, action: str | None) -> None:
    for _ in range(100):
        log.log(level=level, action=action)
    assert len(log.written) == 100


@pytest.mark.parametrize("sign", ["the action", "the error"])
def test_out_of_memory_is_one_line_a_minute_with_a_count(log: FakeLog, sign: str) -> None:
    error = (MemoryError, MemoryError(), None)
    for _ in range(180):
        if sign == "the action":
            log.log("Little is left", WARNING, action="memory")
        else:
            log.log("A request failed", ERROR, exc_info=error)
        log.clock.advance(1)
    log.pipeline.report()
    assert len(log.written) == 4
    assert [line["repeated"] for line in log.lines()[1:]] == [59, 60, 60]


def test_connections_are_one_line_then_a_count_every_five_minutes(log: FakeLog) -> None:
    for _ in range(600):
        log.log("Somebody came", action="connection")
        log.clock.advance(1)
    log.pipeline.report()
    assert log.sentences() == ["Somebody came", AGAIN, AGAIN]
    assert [line.get("repeated") for line in log.lines()] == [None, 299, 300]

    log.clock.advance(300)
    log.log("Somebody came", action="connection")
    assert log.sentences()[3:] == ["Somebody came"]


def test_libraries_with_values_in_their_messages_do_not_fill_the_memory(log: FakeLog) -> None:
    for number in range(1_500):
        log.log(f"Number {number}")
    for _ in range(100):
        log.log("The thousand-and-first")
    assert len(log.written) == 1_600


def test_an_action_or_a_message_may_be_any_object(log: FakeLog) -> None:
    log.log(ValueError("what"), action=["odd"])  # type: ignore[arg-type]
    assert log.lines()[0]["message"] == "what"


def test_a_count_that_waits_for_room_continues_counting() -> None:
    log = FakeLog(limit=10, aggregation=Aggregation())
    for _ in range(8):
        log.log("Fill", WARNING)
        log.clock.advance(1)
    for _ in range(20):
        log.log("Fill", WARNING)
    log.clock.advance(1.2)
    for _ in range(10):
        log.log("Errors", ERROR)
    log.clock.advance(0.9)
    log.pipeline.report()
    assert AGAIN not in log.sentences()
    log.log("Fill", WARNING)
    log.clock.advance(1.1)
    log.pipeline.report()
    # 20 of 29 were written or dropped; the window has gone on until there was room.
    assert [line["repeated"] for line in log.lines() if line["message"] == AGAIN] == [9]


def test_at_the_end_every_count_is_written_early(log: FakeLog) -> None:
    for _ in range(30):
        log.log("One")
        log.log("Other", action="connection")
    assert log.pipeline.report_rest()
    assert sorted(line["repeated"] for line in log.lines() if line["message"] == AGAIN) == [10, 29]
