"""When an event is tried again, and how an endpoint fares."""

import hashlib

import pytest

from app.lifecycle import SECOND_US
from app.state.deliveries import FAILING_AFTER, Attempt, EndpointHealth, receiver_label, retry_wait_us

NOW = 1_700_000_000_000_000
TAKEN = Attempt("receiver", 1)
FAILED = Attempt("receiver", 1, error="HTTP 500")


def after(*attempts: Attempt, health: EndpointHealth | None = None) -> EndpointHealth:
    return (health or EndpointHealth()).after(attempts, NOW)


def test_the_waits_grow_from_five_seconds_to_three_hours() -> None:
    waits_s = [retry_wait_us(failures, 1.0) // SECOND_US for failures in range(1, 11)]
    assert waits_s == [5, 15, 45, 135, 405, 1_215, 3_645, 10_800, 10_800, 10_800]
    assert retry_wait_us(10_000, 1.0) == 10_800 * SECOND_US


@pytest.mark.parametrize("jitter", [0.8, 1.2])
def test_a_wait_is_spread(jitter: float) -> None:
    assert retry_wait_us(3, jitter) == 45 * SECOND_US * jitter


def test_a_failure_or_two_stop_nobody_else() -> None:
    health = after(FAILED, FAILED)
    assert (health.failures, health.is_failing, health.is_open(NOW)) == (2, False, True)
    assert (health.failing_since, health.last_error, health.last_error_at) == (NOW, "HTTP 500", NOW)


def test_an_endpoint_that_fails_is_paused_for_up_to_ten_minutes() -> None:
    health, pauses_s = EndpointHealth(failures=FAILING_AFTER - 1), []
    for _ in range(7):
        health = after(FAILED, health=health)
        assert health.due_at is not None
        pauses_s.append((health.due_at - NOW) // SECOND_US)
        assert not health.is_open(NOW)
    assert pauses_s == [5, 15, 45, 135, 405, 600, 600]


def test_a_success_ends_the_pause() -> None:
    failing = after(*[FAILED] * 5)
    assert failing.due_at is not None
    health = failing.after([TAKEN], failing.due_at)
    assert (health.failures, health.failing_since, health.due_at) == (0, None, None)
    assert (health.delivered, health.delivered_at, health.last_error) == (1, failing.due_at, "HTTP 500")


def test_a_receiver_is_left_alone_for_as_long_as_it_asks_from_its_first_answer_on() -> None:
    asked = FAILED._replace(retry_after_us=120 * SECOND_US)
    health = after(asked)
    assert health.due_at == NOW + 120 * SECOND_US
    # Another answer at the same time does not shorten it.
    assert after(FAILED, health=health).due_at == health.due_at
    assert after(FAILED, FAILED, health=health).due_at == health.due_at
    assert after(TAKEN, health=health).due_at == health.due_at


def test_a_receiver_that_is_gone_gets_nothing_more() -> None:
    health = after(FAILED._replace(error="HTTP 410", is_gone=True))
    assert health.disabled_at == NOW
    assert not health.is_open(NOW + 86_400 * SECOND_US)
    # What was under way then may have been taken.
    assert after(TAKEN, health=health).disabled_at == NOW


def test_metrics_show_no_path_of_an_endpoint() -> None:
    label = receiver_label("https://hooks.example.com/catch/1234/secret")
    assert (
        label
        == "hooks.example.com/"
        + hashlib.sha256(b"https://hooks.example.com/catch/1234/secret").hexdigest()[:6]
    )
    assert receiver_label("https://hooks.example.com/catch/1234/other") != label
    assert [receiver_label(f"http://crm:8080{path}") for path in ("", "/")] == ["crm:8080"] * 2
