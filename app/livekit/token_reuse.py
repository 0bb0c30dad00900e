"""Tokens for LiveKit's API, each used for a while: to sign one takes as long as half a call."""

from collections import OrderedDict

from livekit import api
from livekit.api._service import Service

from app.clock import Clock
from app.lifecycle import SECOND_US

#: LiveKit's SDK signs them for six hours.
_REUSED_FOR_US = 300 * SECOND_US
#: One for each room and kind of right; 1.1 KB each.
_MOST_TOKENS = 10_000


class TokenReuse(Service):
    """A service of livekit-api that gives the same rights the same token again."""

    def reuse_tokens(self, clock: Clock) -> None:
        """To be called before the first call."""
        self._clock = clock
        #: When it was signed, and the headers with it, by its rights; the oldest comes first.
        self._signed: OrderedDict[str, tuple[int, dict[str, str]]] = OrderedDict()

    def _auth_header(
        self, grants: api.VideoGrants | None, sip: api.SIPGrants | None = None
    ) -> dict[str, str]:
        rights, now = repr((grants, sip)), self._clock.now()
        self._forget_old(now)
        if rights not in self._signed:
            self._signed[rights] = now, super()._auth_header(grants, sip)
            if len(self._signed) > _MOST_TOKENS:
                self._signed.popitem(last=False)
        return self._signed[rights][1]

    def _forget_old(self, now: int) -> None:
        while self._signed:
            signed_at, _ = next(iter(self._signed.values()))
            if now - signed_at <= _REUSED_FOR_US:
                return
            self._signed.popitem(last=False)
