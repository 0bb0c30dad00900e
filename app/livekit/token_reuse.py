"""Tokens for LiveKit's API, each used for a while: to sign one takes as long as half a call."""

from collections import OrderedDict

from livekit import api
from livekit.api._service import Service

from app.clock import wall_time_s

#: LiveKit's SDK signs them for six hours.
_REUSED_FOR_S = 300
#: One for each room and kind of right; 1.1 KB each.
_MOST_TOKENS = 10_000


class TokenReuse(Service):
    """A service of livekit-api that gives the same rights the same token again.

    A token says by the wall clock from when until when it is valid. So its age is by that clock too: after a
    suspension of the machine it has expired, and if the clock is set back it is not valid yet.
    """

    def reuse_tokens(self) -> None:
        """To be called before the first call."""
        #: When it was signed, and the headers with it, by its rights; the oldest comes first.
        self._signed: OrderedDict[str, tuple[float, dict[str, str]]] = OrderedDict()

    def _auth_header(
        self, grants: api.VideoGrants | None, sip: api.SIPGrants | None = None
    ) -> dict[str, str]:
        rights, now_s = repr((grants, sip)), wall_time_s()
        self._forget_old(now_s)
        if rights not in self._signed:
            self._signed[rights] = now_s, super()._auth_header(grants, sip)
            if len(self._signed) > _MOST_TOKENS:
                self._signed.popitem(last=False)
        return self._signed[rights][1]

    def _forget_old(self, now_s: float) -> None:
        if self._signed and now_s < next(reversed(self._signed.values()))[0]:
            self._signed.clear()
        while self._signed:
            signed_at_s, _ = next(iter(self._signed.values()))
            if now_s - signed_at_s <= _REUSED_FOR_S:
                return
            self._signed.popitem(last=False)
