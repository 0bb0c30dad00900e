"""Returns: how long people stay away before they come back, and the TTL that is learned from it."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from app.lifecycle.days import DAY_US
from app.lifecycle.model import LIVE_STATES, Dispatch, EndReason, State, Visitors
from app.lifecycle.terms import SECOND_US

#: A return counts half as much after this time. A week has working days and weekends in their proportion.
HALF_LIFE_DAYS = 7
#: Older returns weigh less than 0.3 %; they are deleted.
FORGOTTEN_AFTER_DAYS = 60
#: Below this weight nothing is learned. One return in 20 is the 5 % that the default of `ttl_keep` gives up.
LEAST_WEIGHT = 20.0

#: The weight of the returns in each bucket.
Histogram: TypeAlias = Mapping[int, float]


def _bounds() -> Iterator[int]:
    # In integers, so that every machine has the same.
    number = 0
    while (bound_us := math.isqrt(SECOND_US**2 << number)) < DAY_US:
        yield bound_us
        number += 1
    yield DAY_US


#: The longest absence of each bucket: a second, then sqrt(2) times the one before, up to a day. The tables
#: have the numbers of the buckets.
BOUNDS_US = tuple(_bounds())


@dataclass(frozen=True, kw_only=True)
class Return:
    """Somebody came back to an agent that had been left alone."""

    agent_name: str
    bucket: int
    #: Whether the agent was still there; else its TTL had ended it.
    is_kept: bool


@dataclass(frozen=True, kw_only=True)
class DayCount:
    """The returns to one agent name on one day, after about the same time."""

    #: Days since 1970, in UTC.
    day: int
    bucket: int
    kept: int
    lost: int


def bucket_of(absence_us: int) -> int | None:
    """The bucket of an absence; None for more than a day: that is a new visit."""
    bucket = bisect_left(BOUNDS_US, absence_us)
    return bucket if bucket < len(BOUNDS_US) else None


def buckets_within(longest_us: int) -> int:
    """How many buckets have absences of up to `longest_us`; the last of them may have longer ones too."""
    return min(bisect_left(BOUNDS_US, longest_us) + 1, len(BOUNDS_US))


def return_during(before: Dispatch, after: Dispatch, now: int) -> Return | None:
    """The return that a signal to a dispatch is, if it is one."""
    if before.vacated_at is None or not after.participant_count or before.state is State.ON_HOLD:
        return None
    if before.state not in LIVE_STATES and before.end_reason is not EndReason.EXPIRED:
        return None
    return _return(before, now, is_kept=after.state in LIVE_STATES)


def return_after(former: Dispatch, now: int) -> Return | None:
    """The return that a new dispatch is, if the TTL has ended the one before; that was left alone."""
    return _return(former, now, is_kept=False) if former.end_reason is EndReason.EXPIRED else None


def _return(left: Dispatch, now: int, *, is_kept: bool) -> Return | None:
    if left.vacated_at is None or _has_hung_up(left):
        return None
    bucket = bucket_of(now - left.vacated_at)
    return None if bucket is None else Return(agent_name=left.agent_name, bucket=bucket, is_kept=is_kept)


def _has_hung_up(left: Dispatch) -> bool:
    """Whether a TTL of its own ran: that of callers by telephone is not learned."""
    has_own = left.terms is not None and left.terms.phone_ttl_us is not None
    return has_own and left.visitors is Visitors.PHONES


def decayed(counts: Iterable[DayCount], today: int) -> Histogram:
    """All returns, the older the lighter; the order of `counts` does not matter."""
    weights: defaultdict[int, list[float]] = defaultdict(list)
    for count in counts:
        # Another replica's clock may be in the next day already.
        age_days = max(0, today - count.day)
        weights[count.bucket].append((count.kept + count.lost) * 0.5 ** (age_days / HALF_LIFE_DAYS))
    return {bucket: math.fsum(parts) for bucket, parts in weights.items()}


def learn(histogram: Histogram, *, keep: float, min_us: int, max_us: int) -> int | None:
    """The smallest TTL that keeps the share `keep` of the returns; None: too few were seen to tell.

    Those after more than `max_us` are left out: no TTL may keep them, so they must not make it longer.
    """
    reached = tuple(accumulate(histogram.get(bucket, 0.0) for bucket in range(buckets_within(max_us))))
    if reached[-1] < LEAST_WEIGHT:
        return None
    kept_us = BOUNDS_US[bisect_left(reached, keep * reached[-1])]
    return min(max(kept_us, min_us), max_us)
