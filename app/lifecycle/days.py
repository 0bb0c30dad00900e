"""Days in UTC, numbered since 1970: the ledgers have a row for each."""

from collections.abc import Iterator

from app.lifecycle.terms import SECOND_US

DAY_US = 86_400 * SECOND_US


def day_of(at: int) -> int:
    return at // DAY_US


def by_day(start_at: int, end_at: int) -> Iterator[tuple[int, int]]:
    """The days of a stretch of time, each with its microseconds; none if it has no length."""
    while start_at < end_at:
        day = day_of(start_at)
        midnight_at = (day + 1) * DAY_US
        yield day, min(midnight_at, end_at) - start_at
        start_at = midnight_at
