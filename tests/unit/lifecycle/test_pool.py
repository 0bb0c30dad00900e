"""How many agents of a pool are made and which go, as the policy says and time passes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import SECOND_US, Share
from app.lifecycle.pool import Pool, next_try_at, shortfall, surplus, targets_of
from app.lifecycle.warm import POOLED, WarmAgent, WarmEnd, WarmState
from fakes.dispatches import NOW
from fakes.warm import WAITING

HOUR_US = 3_600 * SECOND_US
POOL = Pool(targets={"": 2}, most=2, max_age_us=HOUR_US)


def warm(number: int, **changes: object) -> WarmAgent:
    return replace(WAITING, id=f"warm-{number}", **changes)  # type: ignore[arg-type]


def failed(reason: WarmEnd, at: int = NOW) -> WarmAgent:
    return warm(1, state=WarmState.ENDED, created_at=at, ended_at=at, ready_at=None, end_reason=reason)


@pytest.mark.parametrize(
    ("wanted", "weights", "targets"),
    [
        (2, (), {"": 2}),
        (3, (50, 50), {"0": 2, "1": 1}),
        (1, (10, 90), {"0": 0, "1": 1}),
        (4, (0, 100), {"0": 0, "1": 4}),
        (0, (50, 50), {"0": 0, "1": 0}),
    ],
)
def test_deployments_have_their_parts_of_the_pool(
    wanted: int, weights: tuple[int, ...], targets: dict[str, int]
) -> None:
    shares = [Share(deployment=str(number), weight=weight) for number, weight in enumerate(weights)]
    assert targets_of(wanted, shares) == targets


@given(wanted=st.integers(0, 50), weights=st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_the_parts_are_the_whole_pool(wanted: int, weights: list[int]) -> None:
    total = sum(weights)
    shares = [
        Share(deployment=str(number), weight=100 * weight / total) for number, weight in enumerate(weights)
    ]
    assert sum(targets_of(wanted, shares).values()) == wanted


def test_what_is_missing_is_made_and_no_more() -> None:
    assert shortfall([], POOL, NOW) == ["", ""]
    assert shortfall([warm(1, state=WarmState.STARTING)], POOL, NOW) == [""]
    assert shortfall([warm(1), warm(2)], POOL, NOW) == []


def test_those_that_end_still_take_a_place() -> None:
    assert shortfall([warm(1, state=WarmState.ENDING), warm(2)], POOL, NOW) == []


def test_what_the_policy_does_not_want_goes() -> None:
    nothing = Pool(targets={}, most=0, max_age_us=HOUR_US)
    assert surplus([warm(1), warm(2, state=WarmState.STARTING)], nothing, NOW) == [
        (warm(1), WarmEnd.UNWANTED),
        (warm(2, state=WarmState.STARTING), WarmEnd.UNWANTED),
    ]
    other = warm(1, deployment="v1")
    assert surplus([other, warm(2)], POOL, NOW) == [(other, WarmEnd.UNWANTED)]


def test_of_too_many_those_that_wait_stay() -> None:
    starting = warm(1, state=WarmState.STARTING, created_at=NOW - 1)
    assert surplus([starting, warm(2), warm(3)], POOL, NOW) == [(starting, WarmEnd.UNWANTED)]


def test_where_agents_with_rooms_leave_no_place_the_pool_gives_way() -> None:
    starting = warm(1, state=WarmState.STARTING)
    assert surplus([starting, warm(2)], POOL.within(1), NOW) == [(starting, WarmEnd.UNWANTED)]
    assert surplus([warm(2)], POOL.within(-1), NOW) == [(warm(2), WarmEnd.UNWANTED)]
    assert shortfall([warm(2)], POOL.within(1), NOW) == []
    assert POOL.within(9) == POOL


def test_aged_ones_go_one_after_the_other_where_the_pool_may_not_grow() -> None:
    aged = [warm(number, created_at=NOW - HOUR_US - 3 + number) for number in (1, 2)]
    assert surplus(aged, POOL, NOW) == [(aged[0], WarmEnd.AGED)]

    starting = warm(3, state=WarmState.STARTING)
    assert surplus([aged[1], starting], POOL, NOW) == []
    assert surplus([aged[1], warm(3)], POOL, NOW) == [(aged[1], WarmEnd.AGED)]


def test_an_aged_one_stays_until_another_waits_where_the_pool_may_grow() -> None:
    pool = Pool(targets={"": 1}, most=2, max_age_us=HOUR_US)
    aged = warm(1, created_at=NOW - HOUR_US)

    assert surplus([aged], pool, NOW) == []
    assert shortfall([aged], pool, NOW) == [""]
    assert surplus([aged, warm(2, state=WarmState.STARTING)], pool, NOW) == []
    assert surplus([aged, warm(2)], pool, NOW) == [(aged, WarmEnd.AGED)]


agents = st.builds(
    lambda number, state, age_us, deployment: warm(
        number, state=state, created_at=NOW - age_us, deployment=deployment
    ),
    st.integers(1, 10_000),
    st.sampled_from([*POOLED, WarmState.ENDING]),
    st.sampled_from([0, 5, HOUR_US, 2 * HOUR_US]),
    st.sampled_from(["", "v1"]),
)


@given(st.lists(agents, max_size=8, unique_by=lambda agent: agent.id), st.integers(0, 3), st.integers(0, 3))
def test_no_step_goes_beyond_the_most_and_a_pool_comes_to_rest(
    pooled: list[WarmAgent], target: int, more: int
) -> None:
    pool = Pool(targets={"": target}, most=target + more, max_age_us=HOUR_US)
    for step in range(40):
        going = {agent.id for agent, _ in surplus(pooled, pool, NOW)}
        pooled = [agent for agent in pooled if agent.id not in going and agent.state is not WarmState.ENDING]
        made = shortfall(pooled, pool, NOW)
        assert not made or len(pooled) + len(made) <= pool.most
        ready = [replace(agent, state=WarmState.WAITING) for agent in pooled]
        pooled = ready + [warm(20_000 + 10 * step + number) for number, _ in enumerate(made)]
    assert [agent.deployment for agent in pooled] == [""] * target
    assert not any(pool.is_aged(agent, NOW) for agent in pooled)


def test_after_failures_the_wait_grows_up_to_a_minute() -> None:
    waits = []
    recent: list[WarmAgent] = []
    for number in range(6):
        recent = [failed(WarmEnd.UNTAKEN, NOW + number), *recent]
        at = next_try_at(recent, NOW + number)
        assert at is not None
        waits.append((at - NOW - number) // SECOND_US)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_those_that_were_made_together_are_one_try() -> None:
    assert next_try_at([failed(WarmEnd.UNTAKEN)] * 5, NOW) == NOW + 5 * SECOND_US


def test_one_that_cannot_wait_is_followed_by_another_after_ten_minutes() -> None:
    assert next_try_at([failed(WarmEnd.NEVER_WAITED)], NOW) == NOW + 600 * SECOND_US


@pytest.mark.parametrize("reason", [WarmEnd.LOST, WarmEnd.AGED, WarmEnd.USED, WarmEnd.UNWANTED])
def test_after_one_that_has_waited_the_next_comes_at_once(reason: WarmEnd) -> None:
    used = warm(1, state=WarmState.ENDED, end_reason=reason, ended_at=NOW)
    assert next_try_at([used, failed(WarmEnd.UNTAKEN)], NOW) is None
    assert next_try_at([], NOW) is None
    assert next_try_at([warm(2, state=WarmState.STARTING), failed(WarmEnd.UNTAKEN)], NOW)


def test_a_failure_by_a_clock_that_was_ahead_stops_nothing() -> None:
    assert next_try_at([failed(WarmEnd.UNTAKEN, NOW + HOUR_US)], NOW) is None
