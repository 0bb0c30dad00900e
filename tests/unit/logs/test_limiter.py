"""The rate limit of the log: kept in any second, the least important dropped first, every call counted."""

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.logs.aggregation import Aggregation
from app.logs.formats import TextForm
from app.logs.limiter import Rank
from app.logs.pipeline import rank_of
from app.logs.redaction import RecordCleaner
from fakes.log import FakeLog, most_in_a_second

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
SHARES = {Rank.DEBUG: 0.4, Rank.INFO: 0.6, Rank.WARNING: 0.8, Rank.ERROR: 1.0}

CALLS = st.lists(
    st.tuples(
        # Steps to and around whole seconds are where a window's edge can be missed.
        st.sampled_from([0, 1, 999, 200_000, 999_999, 1_000_000, 1_000_001, 61_000_000])
        | st.integers(0, 2_000_000),
        st.sampled_from([DEBUG, INFO, WARNING, ERROR, logging.CRITICAL]),
        st.sampled_from([None, "transition", "connection", "memory", "request"]),
        st.sampled_from(["This", "That"]),
    ),
    max_size=200,
)


def level_name(level: int) -> str:
    return logging.getLevelName(level).lower()


@pytest.mark.parametrize(
    ("level", "action", "rank"),
    [
        (DEBUG, None, Rank.DEBUG),
        (INFO, "request", Rank.INFO),
        (INFO, "dispatch", Rank.WARNING),
        (INFO, "reuse", Rank.WARNING),
        (INFO, "transition", Rank.WARNING),
        (WARNING, None, Rank.WARNING),
        (ERROR, "transition", Rank.ERROR),
        (logging.CRITICAL, None, Rank.ERROR),
    ],
)
def test_lifecycle_actions_rank_with_warnings(level: int, action: str | None, rank: Rank) -> None:
    record = logging.makeLogRecord({"levelno": level, "action": action})
    assert rank_of(record) is rank


@given(calls=CALLS, limit=st.integers(1, 12), aggregates=st.booleans())
def test_the_limit_holds_and_the_counts_add_up(
    *, calls: list[tuple[int, int, str | None, str]], limit: int, aggregates: bool
) -> None:
    log = FakeLog(limit=limit, aggregation=Aggregation() if aggregates else None)
    called: Counter[str] = Counter()
    for step_us, level, action, sentence in calls:
        log.clock.advance(step_us / 1_000_000)
        called[level_name(level)] += 1
        before = log.counts.dropped.total()
        log.log(sentence, level, action=action)
        if log.counts.dropped.total() > before:
            # No line is dropped for which there is room.
            recent = [at for at in log.moments() if log.clock.now() - at <= 1_000_000]
            rank = rank_of(logging.makeLogRecord({"levelno": level, "action": action}))
            assert len(recent) >= max(1, int(limit * SHARES[rank]))

    while not log.pipeline.report_rest():
        log.clock.advance(0.5)

    assert most_in_a_second(log.moments()) <= limit
    assert log.counts.written + log.counts.dropped + log.counts.aggregated == called
    own = [line for line in log.lines() if line["message"] in ("This", "That")]
    assert Counter(line["level"] for line in own) == log.counts.written
    repeated: Counter[str] = Counter()
    reported: Counter[str] = Counter()
    for line in log.lines():
        if line["message"] == "The same message was logged again":
            repeated["all"] += line["repeated"]
        elif line["message"] == "Lines were dropped from the log":
            reported.update(line["dropped"])
    assert repeated.total() == log.counts.aggregated.total()
    assert reported == log.counts.dropped


def test_a_hundred_thousand_calls_in_two_seconds() -> None:
    log = FakeLog(limit=400)
    for number in range(100_000):
        log.clock.advance(0.000_02)
        # 50 errors a second are fewer than what the others leave to them.
        level = ERROR if number % 1_000 == 0 else (DEBUG, DEBUG, DEBUG, INFO, WARNING)[number % 5]
        log.log("Number %s", level, number)
    log.clock.advance(60)
    log.pipeline.report()

    assert most_in_a_second(log.moments()) <= 400
    assert log.counts.written["error"] == 100
    assert "error" not in log.counts.dropped
    assert log.counts.dropped["debug"] > log.counts.dropped["info"] > 0
    summary = log.lines()[-1]
    assert summary["message"] == "Lines were dropped from the log"
    assert (summary["written"], summary["dropped"]) == (dict(log.counts.written), dict(log.counts.dropped))
    assert sum(summary["written"].values()) + sum(summary["dropped"].values()) == 100_000


def test_errors_have_room_whatever_else_is_written() -> None:
    log = FakeLog(limit=10)
    for level in (DEBUG, INFO, WARNING, ERROR):
        for _ in range(100):
            log.log("Too much", level)
    assert log.counts.written == {"debug": 4, "info": 2, "warning": 2, "error": 2}


def test_a_limit_of_one_line_goes_to_the_first() -> None:
    log = FakeLog(limit=1)
    log.log(level=DEBUG)
    log.log(level=ERROR)
    log.clock.advance(1.1)
    log.log(level=ERROR)
    assert log.counts.written == {"debug": 1, "error": 1}


def test_without_a_limit_everything_is_written() -> None:
    log = FakeLog(limit=0)
    for _ in range(20_000):
        log.log(level=DEBUG)
    assert log.counts.written == {"debug": 20_000}


@pytest.mark.parametrize("limit", [0, 20_000])
def test_lines_waiting_for_a_blocked_output_are_bounded(limit: int) -> None:
    log = FakeLog(limit=limit)
    log.output_stands_still = True
    for _ in range(30_000):
        log.log(level=ERROR)
    assert len(log.waiting) == 10_000
    assert log.counts.dropped == {"error": 20_000}


def test_the_limit_holds_when_a_blocked_output_continues() -> None:
    """Waiting lines leave all at once, long after they were admitted."""
    log = FakeLog(limit=10)
    log.output_stands_still = True
    for _ in range(50):
        log.clock.advance(0.5)
        log.log(level=ERROR)
    log.go_on()
    for _ in range(50):
        log.clock.advance(0.05)
        log.log(level=ERROR)
    assert most_in_a_second(log.moments()) <= 10
    assert log.counts.written["error"] + log.counts.dropped["error"] == 100


def test_a_line_that_was_not_written_counts_as_dropped() -> None:
    log = FakeLog()
    log.output_stands_still = True
    log.log(level=ERROR)
    log.pipeline.finish(log.waiting.pop(), has_left=False)
    assert (log.counts.written, log.counts.dropped) == ({}, {"error": 1})


def test_a_traceback_on_a_terminal_counts_each_line_and_is_cut_to_fit() -> None:
    log = FakeLog(limit=5, form=TextForm(RecordCleaner()))
    error = RuntimeError("\n".join("word" * 20))
    log.log("It failed", ERROR, exc_info=(RuntimeError, error, None))
    (written,) = log.written
    assert written.output.lines == 5
    assert "It failed" in written.output.text.splitlines()[0]
    log.log(level=ERROR)
    assert log.counts.dropped == {"error": 1}


def test_dropped_lines_are_reported_once_a_minute_within_the_limit() -> None:
    log = FakeLog(limit=2)
    for _ in range(5):
        log.log(level=ERROR)
    log.clock.advance(59)
    log.pipeline.report()
    assert len(log.written) == 2

    log.clock.advance(1)
    log.pipeline.report()
    log.clock.advance(120)
    log.pipeline.report()

    summary = log.lines()[2:]
    assert [(line["level"], line["action"], line["seconds"]) for line in summary] == [
        ("warning", "log_summary", 60)
    ]
    assert summary[0]["dropped"] == {"error": 3}


def test_the_report_of_dropped_lines_comes_before_the_next_record() -> None:
    log = FakeLog(limit=2)
    for _ in range(3):
        log.log(level=ERROR)
    log.clock.advance(60)
    log.log("The next", ERROR)
    assert log.sentences()[-2:] == ["Lines were dropped from the log", "The next"]


def test_the_summary_gets_the_first_room_there_is() -> None:
    log = FakeLog(limit=2)
    for _ in range(640):
        log.clock.advance(0.101)
        log.log("Flood", ERROR)
    summaries = [line for line in log.lines() if line["message"] != "Flood"]
    assert len(summaries) == 1
    assert most_in_a_second(log.moments()) <= 2


def test_a_line_logged_during_formatting_follows() -> None:
    """A finalizer may run at any moment, and log."""
    log = FakeLog(limit=10)

    class Talkative:
        def __str__(self) -> str:
            log.log("Said on the way")
            return "shown"

    log.log("Said first", value=Talkative())
    assert log.sentences() == ["Said first", "Said on the way"]


def test_a_field_that_logs_itself_does_not_loop() -> None:
    log = FakeLog()

    class Endless:
        def __str__(self) -> str:
            log.log("Again", value=self)
            return "shown"

    log.log("Once", value=Endless())
    assert log.sentences() == ["Once", "Again"]
    assert log.counts.dropped == {"info": 1}
