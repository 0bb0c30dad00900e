"""Counts of the calls to the log: each is written, dropped or aggregated."""

import logging
from collections import Counter
from dataclasses import dataclass, field

_PERIOD_US = 60 * 1_000_000


@dataclass(frozen=True)
class LogCounts:
    """Calls since the start, by level in lower case; the log's own summaries do not count."""

    written: Counter[str] = field(default_factory=Counter)
    #: Over the limit, or the output did not take them.
    dropped: Counter[str] = field(default_factory=Counter)
    #: Counted in another line instead of written.
    aggregated: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Counter[tuple[str, str]]:
        """The counts by level and result."""
        results = vars(self).items()
        return Counter({(level, result): n for result, levels in results for level, n in levels.items()})

    def copy(self) -> "LogCounts":
        return LogCounts(**{result: Counter(levels) for result, levels in vars(self).items()})

    def since(self, before: "LogCounts") -> dict[str, Counter[str]]:
        """By result, what was added."""
        return {result: levels - vars(before)[result] for result, levels in vars(self).items()}


class DropSummary:
    """Once a minute, a line with what was dropped; the numbers of all periods add up to the counts."""

    def __init__(self, counts: LogCounts, now: int) -> None:
        self._counts = counts
        self.begin_anew(now)

    def is_due(self, now: int) -> bool:
        return now - self._began_at >= _PERIOD_US

    def record(self, now: int) -> logging.LogRecord | None:
        """None if nothing was dropped."""
        added = self._counts.since(self._before)
        if not added["dropped"]:
            return None
        record = logging.LogRecord(
            "app.logs", logging.WARNING, "", 0, "Lines were dropped from the log", None, None
        )
        seconds = round((now - self._began_at) / 1_000_000)
        vars(record).update(action="log_summary", seconds=seconds, **added)
        return record

    def begin_anew(self, now: int) -> None:
        self._began_at = now
        self._before = self._counts.copy()
