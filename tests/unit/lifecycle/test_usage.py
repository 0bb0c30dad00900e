"""What the time of a dispatch is spent on, and its split by day."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import State, Visitors
from app.lifecycle.days import DAY_US, by_day
from app.lifecycle.usage import TimeKind, account, accrued, kind_of
from fakes.dispatches import INTENT, NOW

ACTIVE = replace(
    INTENT,
    state=State.ACTIVE,
    participant_count=1,
    visitors=Visitors.OTHERS,
    agent_joined_at=NOW,
    accounted_at=NOW,
)
IDLE = replace(ACTIVE, state=State.IDLE, participant_count=0)


@pytest.mark.parametrize(
    ("state", "agent", "people", "visitors", "kind"),
    [
        ("creating", False, 0, "none", "starting"),
        ("creating", False, 2, "others", "starting"),
        ("creating", True, 1, "others", "talked"),
        ("starting", False, 1, "others", "starting"),
        ("active", True, 1, "phones", "talked"),
        ("idle", True, 0, "none", "unvisited"),
        ("idle", True, 0, "phones", "idle"),
        ("idle", True, 0, "others", "idle"),
        ("ending", False, 0, "none", "starting"),
        ("ending", True, 1, "others", "talked"),
        ("ending", True, 0, "others", "idle"),
        ("ending", True, 0, "none", "unvisited"),
        ("unavailable", False, 1, "others", None),
        ("on_hold", False, 1, "others", None),
        ("ended", True, 1, "others", None),
    ],
)
def test_what_the_time_is_spent_on(
    state: str, people: int, visitors: str, kind: str | None, *, agent: bool
) -> None:
    dispatch = replace(
        ACTIVE,
        state=State(state),
        participant_count=people,
        visitors=Visitors(visitors),
        agent_joined_at=NOW if agent else None,
    )
    assert kind_of(dispatch) == kind


def test_only_a_change_of_the_kind_moves_what_is_accounted() -> None:
    two = replace(ACTIVE, participant_count=2)
    assert account(ACTIVE, two, NOW + 5) == two
    assert account(ACTIVE, IDLE, NOW + 5).accounted_at == NOW + 5


def test_a_clock_behind_adds_nothing_and_takes_nothing_back() -> None:
    after = account(ACTIVE, IDLE, NOW - 5)
    assert after.accounted_at == NOW
    assert accrued(ACTIVE, after) == (TimeKind.TALKED, 0)


def test_the_time_of_a_version_before_counts_from_its_first_change() -> None:
    old = replace(ACTIVE, accounted_at=None)
    after = account(old, replace(old, participant_count=2), NOW + 5)
    assert after.accounted_at == NOW + 5
    assert accrued(old, after) == (None, 0)


@given(st.integers(NOW, NOW + 3 * DAY_US), st.integers(-DAY_US, 3 * DAY_US))
def test_the_days_of_a_stretch_add_up(start_at: int, length_us: int) -> None:
    parts = list(by_day(start_at, start_at + length_us))
    assert sum(part_us for _, part_us in parts) == max(0, length_us)
    assert all(0 < part_us <= DAY_US for _, part_us in parts)
    at = start_at
    for day, part_us in parts:
        assert day * DAY_US <= at
        at += part_us
        assert at <= (day + 1) * DAY_US
