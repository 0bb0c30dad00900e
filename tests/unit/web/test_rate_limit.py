"""The rate limiter and the client's address."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.client_address import client_address, neighbourhood
from app.web.rate_limit import RateLimiter
from fakes.clock import FakeClock


def test_the_whole_limit_may_be_used_at_once_and_then_comes_back_evenly() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    quotas = [limiter.take("a", 60) for _ in range(60)]
    assert [quota.remaining for quota in quotas] == list(range(59, -1, -1))
    assert not any(quota.retry_after_s for quota in quotas)

    refused = limiter.take("a", 60)
    assert (refused.remaining, refused.reset_s, refused.retry_after_s) == (0, 60, 1)
    clock.advance(1)
    assert limiter.take("a", 60).retry_after_s == 0
    assert limiter.take("a", 60).retry_after_s == 1


def test_a_rejected_call_costs_nothing() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    for _ in range(500):
        limiter.take("a", 60)
    clock.advance(1)
    assert limiter.take("a", 60).retry_after_s == 0


def test_callers_do_not_share_a_limit() -> None:
    limiter = RateLimiter(FakeClock())
    assert limiter.take("a", 1).retry_after_s == 0
    assert limiter.take("a", 1).retry_after_s == 60
    assert limiter.take("b", 1).retry_after_s == 0


@given(
    limit=st.integers(1, 1_000),
    pauses=st.lists(st.floats(0, 30, allow_nan=False), max_size=60),
)
def test_no_minute_has_more_than_twice_the_limit_and_retry_after_is_true(
    limit: int, pauses: list[float]
) -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    let_through: list[int] = []
    for pause in pauses:
        clock.advance(pause)
        for _ in range(limit // 10 + 1):
            quota = limiter.take("a", limit)
            if quota.retry_after_s == 0:
                let_through.append(clock.now())
        start = clock.now() - 60_000_000
        assert sum(at > start for at in let_through) <= 2 * limit
    quota = limiter.take("a", limit)
    if quota.retry_after_s:
        clock.advance(quota.retry_after_s)
        assert limiter.take("a", limit).retry_after_s == 0


def test_the_callers_that_are_remembered_are_bounded() -> None:
    limiter = RateLimiter(FakeClock(), capacity=100)
    for number in range(10_000):
        limiter.take(number, 60)
    assert len(limiter) <= 100


def test_a_key_with_its_whole_limit_is_forgotten() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock)
    for number in range(100):
        limiter.take(number, 60)
    clock.advance(61)
    for _ in range(100):
        limiter.take("late", 600)
    assert len(limiter) == 1


TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.2.2.2"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["garbage"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, garbage"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [",".join(["10.0.0.2"] * 5_000)], "10.0.0.2"),
        (None, ["1.2.3.4"], ""),
    ],
)
def test_only_trusted_proxies_may_set_the_client_address(
    peer: str | None, forwarded_for: list[str], address: str
) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_the_ipv6_addresses_of_a_subscriber_count_as_one(address: str, expected: str) -> None:
    assert neighbourhood(address) == expected
