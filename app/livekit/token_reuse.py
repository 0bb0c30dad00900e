"""Tokens for LiveKit's API, each used for a while: to sign one takes as long as half a call."""

from livekit import api
from livekit.api._service import Service

from app.clock import Clock
from app.lifecycle import SECOND_US

#: LiveKit's SDK signs them for six hours.
_REUSED_FOR_US = 300 * SECOND_US
#: One for each room and kind of right; some 600 bytes each.
_MOST_TOKENS = 10_000


class TokenReuse(Service):
    """A service of livekit-api that gives the same rights the same token again."""

    def reuse_tokens(self, clock: Clock) -> None:
        """To be called before the first call."""
        self._clock = clock
        #: When it was signed, and the headers with it, by its rights; the oldest comes first.
        self._signed: dict[str, tuple[int, dict[str, str]]] = {}

    def _auth_header(
        self, grants: api.VideoGrants | None, sip: api.SIPGrants | None = None
    ) -> dict[str, str]:
        rights, now = repr((grants, sip)), self._clock.now()
        signed_at, headers = self._signed.get(rights, (0, {}))
        if not headers or now - signed_at > _REUSED_FOR_US:
            headers = super()._auth_header(grants, sip)
            self._signed.pop(rights, None)
            self._signed[rights] = now, headers
            if len(self._signed) > _MOST_TOKENS:
                del self._signed[next(iter(self._signed))]
        return headers
