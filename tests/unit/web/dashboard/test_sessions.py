"""Sessions that are signed and not stored."""

import pytest

from app.web.dashboard.sessions import LIFETIME_S, Sessions
from fakes.clock import FakeClock

KEY, OTHER_KEY = "an-api-key-nobody-guesses", "another-api-key-of-ours"
SECRET = "dev-secret-of-at-least-32-characters"


def _sessions(clock: FakeClock, *keys: str, secret: str = SECRET) -> Sessions:
    return Sessions(keys, secret, clock)


def _cookie(sessions: Sessions, key: str = KEY) -> str:
    value = sessions.open(key)
    assert value is not None
    return value


def test_a_session_survives_a_restart_and_is_valid_on_every_replica() -> None:
    clock = FakeClock()
    cookie = _cookie(_sessions(clock, KEY))
    assert _sessions(clock, OTHER_KEY, KEY).read(cookie)


def test_a_session_ends_only_with_its_own_key() -> None:
    clock = FakeClock()
    both = _sessions(clock, KEY, OTHER_KEY)
    left = _sessions(clock, OTHER_KEY)
    assert left.read(_cookie(both, KEY)) is None
    assert left.read(_cookie(both, OTHER_KEY))
    assert _sessions(clock).read(_cookie(both)) is None


def test_a_session_expires() -> None:
    clock = FakeClock()
    sessions = _sessions(clock, KEY)
    cookie = _cookie(sessions)
    clock.advance(LIFETIME_S - 1)
    assert sessions.read(cookie)
    clock.advance(1)
    assert sessions.read(cookie) is None


def test_a_session_of_another_deployment_is_rejected() -> None:
    clock = FakeClock()
    cookie = _cookie(_sessions(clock, KEY, secret="another-secret-of-at-least-32-chars"))
    assert _sessions(clock, KEY).read(cookie) is None


@pytest.mark.parametrize("key", ["", KEY[:-1], KEY + "x", KEY.upper(), "\udc80" * 20, OTHER_KEY])
def test_no_other_key_opens_a_session(key: str) -> None:
    assert _sessions(FakeClock(), KEY).open(key) is None


def test_without_keys_no_session_opens() -> None:
    sessions = _sessions(FakeClock())
    assert not sessions.configured
    assert sessions.open("") is None


def test_a_changed_cookie_is_rejected() -> None:
    clock = FakeClock()
    sessions = _sessions(clock, KEY)
    cookie = _cookie(sessions)
    # The last character has bits to spare, which belong to no byte of the signature.
    for position, character in enumerate(cookie[:-1]):
        for other in "A7." if character != "A" else "B8.":
            changed = cookie[:position] + other + cookie[position + 1 :]
            assert changed == cookie or sessions.read(changed) is None, changed


@pytest.mark.parametrize("value", [None, "", ".", "a.b", "a.b.c", "\0", "\udcfc", "9" * 5000, "." * 5000])
def test_any_other_value_is_not_a_session(value: str | None) -> None:
    assert _sessions(FakeClock(), KEY).read(value) is None


def test_the_key_is_not_in_the_cookie() -> None:
    sessions = _sessions(FakeClock(), KEY)
    cookie = _cookie(sessions)
    assert KEY not in cookie
    assert _cookie(sessions) != cookie
