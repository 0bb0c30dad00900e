"""Only what a secret of ours has signed for the same purpose is read again."""

import pytest

from app.web.signing import read_signed, sign

SECRET, OLD_SECRET, STRANGER = b"a secret of ours", b"an older one of ours", b"nobody's secret"
ROOM, SESSION = "a room", "a session"
VALUE = [1, "two"]


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_a_token_signed_with_any_of_our_secrets_is_accepted(secret: bytes) -> None:
    assert read_signed(sign(VALUE, secret, ROOM), [SECRET, OLD_SECRET], ROOM) == VALUE


def test_another_secret_is_not() -> None:
    assert read_signed(sign(VALUE, STRANGER, ROOM), [SECRET, OLD_SECRET], ROOM) is None
    assert read_signed(sign(VALUE, SECRET, ROOM), [], ROOM) is None


def test_what_is_signed_for_one_purpose_is_nothing_for_another() -> None:
    assert read_signed(sign(VALUE, SECRET, ROOM), [SECRET], SESSION) is None


@pytest.mark.parametrize("text", ["", ".", "a.b", "\udcfc", "\udcfc.\udcfc", "ü.ü", "\0", "=" * 5000])
def test_any_other_text_is_nothing(text: str) -> None:
    assert read_signed(text, [SECRET], ROOM) is None


def test_it_fits_into_a_cookie() -> None:
    assert set(sign(VALUE, SECRET, ROOM)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    )
