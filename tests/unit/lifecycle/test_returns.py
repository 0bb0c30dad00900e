"""The TTL that is learned from returns: the smallest that keeps the wanted share of them."""

import math
import random
from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from app.lifecycle import SECOND_US
from app.lifecycle.days import DAY_US
from app.lifecycle.returns import (
    BOUNDS_US,
    HALF_LIFE_DAYS,
    LEAST_WEIGHT,
    DayCount,
    bucket_of,
    decayed,
    learn,
)

TODAY = 20_000
MIN_US, MAX_US = 30 * SECOND_US, 3_600 * SECOND_US

absences = st.integers(min_value=0, max_value=DAY_US)
histograms = st.dictionaries(st.integers(0, len(BOUNDS_US) - 1), st.floats(0, 1_000))
shares = st.floats(0.01, 1)
counts = st.lists(
    st.builds(
        DayCount,
        day=st.integers(TODAY - 60, TODAY),
        bucket=st.integers(0, len(BOUNDS_US) - 1),
        kept=st.integers(0, 100),
        lost=st.integers(0, 100),
    ),
    max_size=30,
)


def counted(gaps_us: Sequence[int], day: int = TODAY) -> list[DayCount]:
    buckets = [bucket_of(gap_us) for gap_us in gaps_us]
    return [DayCount(day=day, bucket=bucket, kept=1, lost=0) for bucket in buckets if bucket is not None]


def learned(
    gaps_us: Sequence[int], *, keep: float = 0.95, min_us: int = 1, max_us: int = DAY_US
) -> int | None:
    return learn(decayed(counted(gaps_us), TODAY), keep=keep, min_us=min_us, max_us=max_us)


@given(absences)
def test_an_absence_is_at_most_the_bound_of_its_bucket(gap_us: int) -> None:
    bucket = bucket_of(gap_us)

    assert bucket is not None
    assert gap_us <= BOUNDS_US[bucket]
    assert bucket == 0 or gap_us > BOUNDS_US[bucket - 1]
    # The tables have the numbers: they must never move.
    assert abs(BOUNDS_US[bucket] - min(SECOND_US * math.sqrt(2) ** bucket, DAY_US)) < 2


def test_longer_than_a_day_is_no_return() -> None:
    assert bucket_of(DAY_US) == len(BOUNDS_US) - 1 == 33
    assert bucket_of(DAY_US + 1) is None
    # The clock of the replica that saw the leave was ahead.
    assert bucket_of(-1) == 0


@given(st.lists(absences, min_size=20, max_size=60), shares)
def test_it_keeps_the_wanted_share_and_hardly_longer_than_needed(gaps_us: list[int], keep: float) -> None:
    ttl_us = learned(gaps_us, keep=keep)

    assert ttl_us is not None
    assert sum(gap_us <= ttl_us for gap_us in gaps_us) >= keep * len(gaps_us)
    needed_us = next(
        gap_us for gap_us in sorted(gaps_us) if sum(one <= gap_us for one in gaps_us) >= keep * len(gaps_us)
    )
    assert ttl_us <= max(SECOND_US, needed_us * 1.4143 + 2)


@given(histograms, shares, shares)
def test_a_higher_share_never_has_a_shorter_ttl(
    histogram: dict[int, float], one: float, other: float
) -> None:
    lower_us, higher_us = (
        learn(histogram, keep=keep, min_us=MIN_US, max_us=MAX_US) for keep in sorted((one, other))
    )

    assert (lower_us is None) is (higher_us is None)
    assert (lower_us or 0) <= (higher_us or 0)


@given(histograms, shares, absences, absences)
def test_it_stays_within_its_bounds(histogram: dict[int, float], keep: float, one: int, other: int) -> None:
    min_us, max_us = sorted((one, other))

    ttl_us = learn(histogram, keep=keep, min_us=min_us, max_us=max_us)

    assert ttl_us is None or min_us <= ttl_us <= max_us


@given(histograms, shares)
def test_who_stays_away_longer_than_the_longest_ttl_does_not_make_it_longer(
    histogram: dict[int, float], keep: float
) -> None:
    longer = {bucket: 1_000.0 for bucket, bound_us in enumerate(BOUNDS_US) if bound_us > 2 * MAX_US}

    assert learn(histogram | longer, keep=keep, min_us=MIN_US, max_us=MAX_US) == learn(
        histogram, keep=keep, min_us=MIN_US, max_us=MAX_US
    )


def test_nothing_is_learned_from_few_returns() -> None:
    minute_us = 60 * SECOND_US

    assert learned([minute_us] * 19) is None
    assert learned([minute_us] * 20) == 64 * SECOND_US
    assert learned([minute_us] * 19 + [DAY_US], max_us=MAX_US) is None


@given(counts, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[DayCount], order: random.Random) -> None:
    """Two replicas may read them in different orders."""
    shuffled = list(rows)
    order.shuffle(shuffled)

    assert decayed(rows, TODAY) == decayed(shuffled, TODAY)


@given(counts)
def test_returns_weigh_half_after_the_half_life_and_soon_too_little(rows: list[DayCount]) -> None:
    now, later = decayed(rows, TODAY), decayed(rows, TODAY + HALF_LIFE_DAYS)

    assert all(math.isclose(later[bucket], weight / 2) for bucket, weight in now.items())
    # A day that has not begun here weighs like today.
    assert decayed(rows, TODAY - 1_000) == decayed(rows, TODAY - 900)


@given(st.integers(20, 500))
def test_what_was_learned_is_forgotten(number: int) -> None:
    rows = counted([60 * SECOND_US] * number)
    weights = [decayed(rows, TODAY + day)[rows[0].bucket] for day in range(60)]
    ttls_us = [
        learn(decayed(rows, TODAY + day), keep=0.95, min_us=MIN_US, max_us=MAX_US) for day in range(60)
    ]

    assume(weights[-1] < LEAST_WEIGHT)
    assert [ttl_us is not None for ttl_us in ttls_us] == [weight >= LEAST_WEIGHT for weight in weights]


def test_habits_that_grow_longer_count_at_once_and_shorter_ones_within_weeks() -> None:
    """One return in 20 makes the TTL longer; it gets shorter when old returns weigh less than that."""
    short_us, long_us = 20 * SECOND_US, 240 * SECOND_US

    def ttl_us(*days: int) -> int | None:
        rows = [row for day, gap_us in enumerate(days) for row in counted([gap_us] * 10, TODAY + day)]
        return learn(decayed(rows, TODAY + len(days) - 1), keep=0.95, min_us=1, max_us=MAX_US)

    before = (short_us,) * 14
    assert ttl_us(*before) == 22_627_416
    assert ttl_us(*before, long_us) == 256 * SECOND_US

    before = (long_us,) * 14
    assert ttl_us(*before, *(short_us,) * 14) == 256 * SECOND_US
    assert ttl_us(*before, *(short_us,) * 28) == 22_627_416
