"""The time it takes to reject an API key reveals nothing about the guess."""

import hmac

import pytest

from app.errors import Unauthenticated
from app.web.auth import Authenticator

API_KEYS = ("the-first-key-of-three", "the-second-key-of-three", "a-third-and-rather-longer-key-of-three")


@pytest.mark.parametrize(
    "guess", [*API_KEYS, "x", API_KEYS[0][:-1], API_KEYS[0] + "x", "x" * 10_000], ids=lambda text: text[:30]
)
def test_a_guess_is_compared_with_every_key_in_full(guess: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By digests: they have one length, and similar keys have unlike digests."""
    authenticator = Authenticator({}, API_KEYS)
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    if guess in API_KEYS:
        assert authenticator.identify(f"Bearer {guess}").is_operator
    else:
        with pytest.raises(Unauthenticated):
            authenticator.identify(f"Bearer {guess}")

    assert len(compared) == len(API_KEYS)
    assert {len(text) for pair in compared for text in pair} == {32}
