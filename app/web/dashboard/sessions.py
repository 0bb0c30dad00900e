"""Who is signed in to the dashboard: an expiring cookie, signed with the API key that it stands for.

Nothing is stored. The key that signs is derived from the API key and LiveKit's secret, so a session outlives
a restart, holds on every replica, and ends when its API key is taken from API_KEYS. The cookie does not
contain the API key, and without LiveKit's secret not even a guess at it can be checked against the cookie.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from app.clock import Clock

LIFETIME_S = 12 * 3600
_SECOND_US = 1_000_000
_PURPOSE = b"agent-lifecycle dashboard session v1\0"
_FORM = re.compile(r"v1\.(\d{1,12})\.([\w-]{22})\.([\w-]{43})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Session:
    expires_at: int


class Sessions:
    def __init__(self, api_keys: Iterable[str], livekit_secret: str, clock: Clock) -> None:
        self._clock = clock
        #: By digest of the API key; digests are of one length, so that comparing tells nothing of a guess.
        self._signing_keys = {
            _digest(key): _mac(livekit_secret.encode(), _PURPOSE + key.encode()) for key in api_keys
        }

    @property
    def configured(self) -> bool:
        """Whether there is an API key at all, with which somebody could sign in."""
        return bool(self._signing_keys)

    def open(self, api_key: str) -> str | None:
        """A cookie's value for whoever knows this key; None: it is none of ours."""
        digest = _digest(api_key)
        signing_key = b""
        # All are compared, whichever matches: the time taken tells nothing.
        for known, candidate in self._signing_keys.items():
            if hmac.compare_digest(digest, known):
                signing_key = candidate
        if not signing_key:
            return None
        expires_s = self._clock.now() // _SECOND_US + LIFETIME_S
        body = f"v1.{expires_s}.{secrets.token_urlsafe(16)}"
        return f"{body}.{_encode(_mac(signing_key, body.encode()))}"

    def read(self, value: str | None) -> Session | None:
        """The session of a cookie; None: forged, expired, or of a key that is no longer ours."""
        found = _FORM.fullmatch(value or "")
        if value is None or found is None:
            return None
        body, _, mac = value.rpartition(".")
        known = [_encode(_mac(key, body.encode())) for key in self._signing_keys.values()]
        if not sum(hmac.compare_digest(mac, one) for one in known):
            return None
        expires_at = int(found[1]) * _SECOND_US
        return Session(expires_at=expires_at) if expires_at > self._clock.now() else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _encode(mac: bytes) -> str:
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
