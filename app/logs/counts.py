"""What became of the calls to the log: each is written, dropped or aggregated, and is counted once."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LogCounts:
    """Calls since the start, by level in lower case; the summaries, which nobody called for, do not count."""

    written: Counter[str] = field(default_factory=Counter)
    #: For want of room under the limit, or because nobody takes the output.
    dropped: Counter[str] = field(default_factory=Counter)
    #: Counted in a summary in place of a line of their own.
    aggregated: Counter[str] = field(default_factory=Counter)
