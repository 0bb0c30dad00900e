"""What agents have cost, as the ledger is read: by agent, day or room."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from app.lifecycle.usage import TimeKind

DAY_0 = date(1970, 1, 1)


class UsageBy(StrEnum):
    AGENT = "agent"
    DAY = "day"
    ROOM = "room"


#: The name of an agent or of a room, or a day since 1970.
UsageKey = str | int


@dataclass(kw_only=True)
class Usage:
    """What some dispatches have cost."""

    dispatches: int = 0
    #: In microseconds.
    times_us: Counter[TimeKind] = field(default_factory=Counter)
    #: Of those that have ended, by reason.
    end_reasons: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class UsageReport:
    items: dict[UsageKey, Usage]
    #: A dispatch of several days is one here, and one in the item of each day.
    dispatches: int

    @property
    def total(self) -> Usage:
        total = Usage(dispatches=self.dispatches)
        for item in self.items.values():
            total.times_us.update(item.times_us)
            total.end_reasons.update(item.end_reasons)
        return total


def iso_day(day: int) -> str:
    """The date of a day since 1970."""
    return date.fromordinal(day + DAY_0.toordinal()).isoformat()
