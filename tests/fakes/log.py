"""Logs to look into: one without a thread or an output, and the process's own on a fake clock."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import Any

from app.logs.aggregation import Aggregation
from app.logs.counts import LogCounts
from app.logs.formats import Form, JsonForm
from app.logs.limiter import LogRateLimiter
from app.logs.pipeline import Output, Pipeline
from app.logs.redaction import RecordCleaner
from app.logs.setup import LogHandler, configure_logging
from fakes.clock import FakeClock


@dataclass(frozen=True)
class Written:
    at: int
    output: Output

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.output.text)
        return fields


class FakeLog:
    def __init__(
        self,
        *,
        limit: int = 0,
        aggregation: Aggregation | None = None,
        form: Form | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.written: list[Written] = []
        #: Let through, and not taken by the output yet.
        self.waiting: list[Output] = []
        self.output_stands_still = False
        self.pipeline = Pipeline(
            form or JsonForm(RecordCleaner()), LogRateLimiter(limit), aggregation, self.clock, self._send
        )

    @property
    def counts(self) -> LogCounts:
        return self.pipeline.counts

    def log(
        self,
        message: str = "Something happened",
        level: int = logging.INFO,
        *args: object,
        logger: str = "app.test",
        exc_info: Any = None,
        **fields: object,
    ) -> None:
        record = logging.LogRecord(logger, level, "", 0, message, args, exc_info)
        vars(record).update(fields)
        self.pipeline.take(record)

    def lines(self) -> list[dict[str, Any]]:
        return [written.fields for written in self.written]

    def sentences(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def moments(self) -> list[int]:
        """When each line was written."""
        return [written.at for written in self.written for _ in range(written.output.lines)]

    def go_on(self) -> None:
        """The output takes what has waited for it, all at once."""
        self.output_stands_still = False
        waiting, self.waiting = self.waiting, []
        for output in waiting:
            self._send(output)

    def _send(self, output: Output) -> None:
        if self.output_stands_still:
            self.waiting.append(output)
            return
        assert output.text.count("\n") == output.lines
        self.written.append(Written(self.clock.now(), output))
        self.pipeline.finish(output, has_left=True)


@dataclass(frozen=True)
class ProcessLog:
    """The log as it is in production: how many calls there were by level, and what has come out."""

    handler: LogHandler
    called: Counter[str]
    output: StringIO

    def written(self) -> Counter[str]:
        """Lines by level, but for the summaries."""
        lines = map(json.loads, self.output.getvalue().splitlines())
        return Counter(line["level"] for line in lines if not {"repeated", "dropped"} & set(line))


@contextmanager
def log_of_the_process(clock: FakeClock, level: str, *, rate_limit: int) -> Iterator[ProcessLog]:
    """What is logged in the block, all of it written at its end; whoever listened before still does."""
    called: Counter[str] = Counter()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            called[record.levelname.lower()] += 1

    root, output = logging.getLogger(), StringIO()
    level_before, handlers = root.level, list(root.handlers)
    log = configure_logging(level, output, rate_limit=rate_limit, aggregation=Aggregation(), clock=clock)
    root.handlers += [Listener(), *handlers]
    try:
        yield ProcessLog(log, called, output)
    finally:
        root.setLevel(level_before)
        root.handlers[:] = handlers
        log.close()


def most_in_a_second(moments: list[int]) -> int:
    """The most lines in any second, both of its ends included, wherever it begins."""
    return _most_within(moments, 1_000_000)


def most_in_a_printed_second(lines: list[dict[str, Any]]) -> int:
    """The same for times as they are printed, in milliseconds: that is how far apart two ends have to be."""
    moments = [round(datetime.fromisoformat(line["time"]).timestamp() * 1_000_000) for line in lines]
    assert moments == sorted(moments)
    return _most_within(moments, 999_000)


def _most_within(moments: list[int], span_us: int) -> int:
    most, first = 0, 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > span_us:
            first += 1
        most = max(most, last - first + 1)
    return most
