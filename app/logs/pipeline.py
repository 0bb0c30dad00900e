"""The log pipeline: aggregates, limits and formats every record, and hands it to the output."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from app.clock import Clock
from app.logs.aggregation import LIFECYCLE_ACTIONS, Aggregation, Collapse, Group, action_of
from app.logs.counts import DropSummary, LogCounts
from app.logs.formats import Form
from app.logs.limiter import LogRateLimiter, Rank

#: How often due reports are checked.
_LOOK_EVERY_US = 100_000


class Output(NamedTuple):
    """One record on its way out."""

    text: str
    lines: int
    #: None: a report of our own, which is not a call.
    level: str | None


def rank_of(record: logging.LogRecord) -> Rank:
    if record.levelno >= logging.ERROR:
        return Rank.ERROR
    if record.levelno >= logging.WARNING or action_of(record) in LIFECYCLE_ACTIONS:
        return Rank.WARNING
    return Rank.INFO if record.levelno >= logging.INFO else Rank.DEBUG


class Pipeline:
    """Safe for any thread, and for code that logs while a line is being formatted."""

    def __init__(
        self,
        form: Form,
        limiter: LogRateLimiter,
        aggregation: Aggregation | None,
        clock: Clock,
        send: Callable[[Output], None],
    ) -> None:
        """Call `finish` for every output that `send` gets. `aggregation` None: no line is aggregated."""
        self.counts = LogCounts()
        self._form = form
        self._limiter = limiter
        self._aggregation = aggregation
        self._clock = clock
        self._send = send
        self._drops = DropSummary(self.counts, clock.now())
        self._lock = threading.RLock()
        self._is_busy = False
        self._held: list[logging.LogRecord] = []
        self._report_at = 0

    def take(self, record: logging.LogRecord) -> None:
        with self._lock:
            if self._is_busy:
                # A finalizer or a field's __str__ logs while this thread is in the pipeline.
                self._held.append(record)
                return
            # Most calls are for dropped lines: a context manager would double their cost.
            self._is_busy = True
            try:
                self._take(record)
                if self._held:
                    self._take_held()
            finally:
                self._is_busy = False

    def finish(self, output: Output, *, has_left: bool) -> None:
        """Count an output that was sent: it is written or lost."""
        with self._lock:
            self._limiter.finish(output.lines, self._clock.now())
            if output.level is not None:
                (self.counts.written if has_left else self.counts.dropped)[output.level] += 1

    def report(self) -> None:
        """Write the reports that are due, for a process that logs nothing else."""
        with self._lock, self._alone():
            self._report(self._clock.now())

    def report_rest(self) -> bool:
        """Write all remaining reports; False if there is no room for all of them now."""
        with self._lock, self._alone():
            now = self._clock.now()
            unreported = self._aggregation.unreported() if self._aggregation else iter(())
            return self._report_groups(unreported, now) and self._report_drops(now)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._is_busy = True
        try:
            yield
            if self._held:
                self._take_held()
        finally:
            self._is_busy = False

    def _take(self, record: logging.LogRecord) -> None:
        now = self._clock.now()
        if now >= self._report_at:
            self._report(now)
        level = record.levelname.lower()
        if self._aggregation and not self._aggregation.keeps(record, now):
            self.counts.aggregated[level] += 1
        elif not self._write(record, rank_of(record), level, now):
            self.counts.dropped[level] += 1

    def _take_held(self) -> None:
        held, self._held = self._held, []
        for record in held:
            self._take(record)
        # What these log in turn could go on for ever.
        for record in self._held:
            self.counts.dropped[record.levelname.lower()] += 1
        self._held = []

    def _write(self, record: logging.LogRecord, rank: Rank, level: str | None, now: int) -> bool:
        granted = self._limiter.take(rank, 1, now)
        if not granted:
            return False
        lines = self._form.lines(record, now)
        if len(lines) > 1:
            granted += self._limiter.take(rank, len(lines) - 1, now)
        self._send(Output("\n".join(lines[:granted]) + "\n", granted, level))
        return True

    def _report(self, now: int) -> None:
        is_complete = not self._drops.is_due(now) or self._report_drops(now)
        if self._aggregation:
            is_complete &= self._report_groups(self._aggregation.due(now), now)
        # Without room now, the report has to come before the next record.
        self._report_at = now + _LOOK_EVERY_US if is_complete else now

    def _report_drops(self, now: int) -> bool:
        record = self._drops.record(now)
        # One line a minute may have the highest rank.
        if record and not self._write(record, Rank.ERROR, None, now):
            return False
        self._drops.begin_anew(now)
        return True

    def _report_groups(self, groups: Iterator[tuple[Collapse, Group]], now: int) -> bool:
        """False if there was no room for all; the others continue counting."""
        for collapse, group in groups:
            if not self._write(group.record(now), Rank.WARNING, None, now):
                return False
            collapse.begin_anew(group, now)
        return True
