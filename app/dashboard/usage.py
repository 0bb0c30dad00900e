"""What agents cost, by day, as JSON for the page."""

import msgspec

from app.lifecycle import SECOND_US
from app.lifecycle.usage import TimeKind
from app.state.usage import UsageReport, iso_day

DAYS = 30


class DayCard(msgspec.Struct, rename="camel", kw_only=True):
    #: In UTC.
    day: str
    talked_s: float
    idle_s: float
    unvisited_s: float


class UsageDays(msgspec.Struct, kw_only=True):
    """Every day, also those without any usage; the oldest first."""

    days: list[DayCard]


def usage_days(report: UsageReport, days: range) -> UsageDays:
    """`report`: by day."""
    return UsageDays(days=[_card(report, day) for day in days])


def _card(report: UsageReport, day: int) -> DayCard:
    item = report.items.get(day)
    talked_s, idle_s, unvisited_s = (
        item.times_us[kind] / SECOND_US if item else 0.0
        for kind in (TimeKind.TALKED, TimeKind.IDLE, TimeKind.UNVISITED)
    )
    return DayCard(day=iso_day(day), talked_s=talked_s, idle_s=idle_s, unvisited_s=unvisited_s)
