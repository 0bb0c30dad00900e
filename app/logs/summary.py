"""The line that says, once a minute, what of the log was dropped."""

import logging
from collections import Counter

from app.logs.counts import LogCounts

_PERIOD_US = 60 * 1_000_000


class DropSummary:
    """What has become of calls in the period that runs; the periods' numbers add up to the counts."""

    def __init__(self, counts: LogCounts, now: int) -> None:
        self._counts = counts
        self.begin_anew(now)

    def is_due(self, now: int) -> bool:
        return now - self._began_at >= _PERIOD_US

    def record(self, now: int) -> logging.LogRecord | None:
        """None: nothing was dropped."""
        dropped = self._counts.dropped - self._dropped
        if not dropped:
            return None
        record = logging.LogRecord(
            "app.logs", logging.WARNING, "", 0, "Lines were dropped from the log", None, None
        )
        vars(record).update(
            action="log_summary",
            seconds=round((now - self._began_at) / 1_000_000),
            dropped=dict(dropped),
            aggregated=dict(self._counts.aggregated - self._aggregated),
            written=dict(self._counts.written - self._written),
        )
        return record

    def begin_anew(self, now: int) -> None:
        self._began_at = now
        self._dropped = Counter(self._counts.dropped)
        self._aggregated = Counter(self._counts.aggregated)
        self._written = Counter(self._counts.written)
