"""The last hour in minutes."""

from app.dashboard.history import MINUTE_US, MINUTES, MinuteHistory, Totals

_START = 1_000_000 * MINUTE_US


def test_counts_before_the_first_reading_are_ignored() -> None:
    assert MinuteHistory().record(_START, Totals(created=70)).counts == Totals()


def test_readings_within_a_minute_add_up() -> None:
    hour = MinuteHistory()
    hour.record(_START, Totals())
    hour.record(_START + 10, Totals(created=2, drift=1))
    hour.record(_START + MINUTE_US - 1, Totals(created=5, drift=1))
    (minute,) = hour.minutes
    assert (minute.at, minute.counts) == (_START, Totals(created=5, drift=1))


def test_an_increase_counts_for_the_minute_of_its_reading() -> None:
    hour = MinuteHistory()
    hour.record(_START, Totals())
    hour.record(_START + MINUTE_US + 7, Totals(reused=3))
    assert [(minute.at, minute.counts.reused) for minute in hour.minutes] == [
        (_START, 0),
        (_START + MINUTE_US, 3),
    ]


def test_only_an_hour_is_kept() -> None:
    hour = MinuteHistory()
    for number in range(1_000):
        hour.record(_START + number * MINUTE_US, Totals(created=number))
    assert len(hour.minutes) == MINUTES
    assert hour.minutes[0].at == _START + (1_000 - MINUTES) * MINUTE_US
    assert {minute.counts.created for minute in hour.minutes} == {1}
