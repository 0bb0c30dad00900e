"""Sessions of the dashboard: an expiring cookie, signed with a key derived from the API key.

Only a sign-out is stored. The signing key is derived from the API key and LiveKit's secret, so a session
survives a restart, is valid on every replica, and ends when its API key is removed from API_KEYS. The cookie
does not contain the API key, and without LiveKit's secret no guess at the key can be checked against the
cookie.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.clock import Clock
from app.lifecycle import SECOND_US
from app.web.auth import ApiKeys
from app.web.signing import read_signed, sign

LIFETIME_S = 12 * 3600
# The number is the version of the format: change it with the signed content.
_PURPOSE = "agent-lifecycle dashboard session 2"


@dataclass(frozen=True, kw_only=True)
class Session:
    id: str
    expires_at: int


class Sessions:
    def __init__(self, api_keys: Sequence[str], livekit_secret: str, clock: Clock) -> None:
        self._clock = clock
        self._api_keys = ApiKeys(api_keys)
        self._secrets = [hmac.digest(livekit_secret.encode(), key.encode(), "sha256") for key in api_keys]

    @property
    def configured(self) -> bool:
        """Whether there is an API key to sign in with."""
        return bool(self._secrets)

    def open(self, api_key: str) -> str | None:
        """The cookie's value for a known API key; None for any other."""
        place = self._api_keys.find(api_key)
        if place is None:
            return None
        expires_at = self._clock.now() + LIFETIME_S * SECOND_US
        return sign([expires_at, secrets.token_urlsafe(16)], self._secrets[place], _PURPOSE)

    def read(self, value: str | None) -> Session | None:
        """The session of a cookie; None if it is forged, expired, or of a removed key."""
        signed = read_signed(value or "", self._secrets, _PURPOSE)
        if signed is None:
            return None
        expires_at, session_id = signed
        return Session(id=session_id, expires_at=expires_at) if expires_at > self._clock.now() else None
