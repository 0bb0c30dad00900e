"""The log of refused requests: who was refused what, without letting a stranger fill the log."""

import logging
from collections.abc import Sequence

from aiohttp import web

from app.clock import Clock
from app.config.environment import Network
from app.errors import Forbidden, RateLimited, ServiceError, Unauthenticated
from app.web.auth import CALLER
from app.web.client_address import address_of, neighbourhood
from app.web.rate_limit import RateLimiter

logger = logging.getLogger(__name__)

#: Lines for one caller; `http_requests_total` counts all.
LINES_PER_MINUTE = 6

_REFUSALS = (Unauthenticated, Forbidden, RateLimited)


class Refusals:
    def __init__(self, clock: Clock, trusted_proxies: Sequence[Network]) -> None:
        self._lines = RateLimiter(clock, capacity=2_000)
        self._trusted_proxies = trusted_proxies

    def note(self, request: web.BaseRequest, route: str | None, error: Exception) -> bool:
        """Log a refusal with the address, and the number of an API key, from 1; False for another error."""
        if not isinstance(error, _REFUSALS):
            return False
        caller = request.get(CALLER)
        api_key = caller.api_key + 1 if caller and caller.api_key is not None else None
        address = address_of(request, self._trusted_proxies)
        # By the network: one subscriber has more addresses of IPv6 than lines could be kept of.
        if not self._lines.take(api_key or neighbourhood(address), LINES_PER_MINUTE).retry_after_s:
            _log(route, error, address, api_key)
        return True


def _log(route: str | None, error: ServiceError, address: str, api_key: int | None) -> None:
    fields: dict[str, object] = {"action": "refused", "route": route, "code": error.code, "address": address}
    if api_key is not None:
        fields["api_key"] = api_key
    logger.info("Request refused", extra=fields)
