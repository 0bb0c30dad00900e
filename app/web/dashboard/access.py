"""Access control of the dashboard: the session cookie, and the check for requests of other sites."""

import logging
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from app.clock import Clock
from app.config.settings import Config
from app.errors import Forbidden, RateLimited, Unauthenticated
from app.web.client_address import client_address, neighbourhood
from app.web.dashboard.sessions import LIFETIME_S, Session, Sessions
from app.web.rate_limit import RateLimiter

logger = logging.getLogger(__name__)

COOKIE = "lifecycle_dashboard"
PATH = "/dashboard"

#: Sign-in attempts from one address: enough for typing errors, far too few for guessing.
SIGN_INS_PER_MINUTE = 10


class DashboardAccess:
    def __init__(self, config: Config, clock: Clock) -> None:
        self._sessions = Sessions(config.api_keys, config.livekit_key.secret, clock)
        self._sign_ins = RateLimiter(clock)
        self._public_url = config.public_url or ""
        self._trusted_proxies = config.trusted_proxies

    @property
    def configured(self) -> bool:
        return self._sessions.configured

    def session(self, request: web.Request) -> Session | None:
        return self._sessions.read(request.cookies.get(COOKIE))

    def require_session(self, request: web.Request) -> Session:
        """Raises: Unauthenticated: there is no valid session."""
        session = self.session(request)
        if session is None:
            raise Unauthenticated("Not signed in to the dashboard")
        return session

    def require_own_page(self, request: web.Request) -> None:
        """Reject a change that does not come from the dashboard's page, even with a valid cookie.

        Raises:
            Forbidden: another site's page sent the request, or its origin is unknown.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            own = site == "same-origin"
        else:
            # Browsers omit this header if the page came over plain http from another machine.
            origin = urlsplit(request.headers.get("Origin", "")).netloc
            own = bool(origin) and origin in (request.host, urlsplit(self._public_url).netloc)
        if not own:
            raise Forbidden("Only the dashboard's own page may do this")

    def sign_in(self, request: web.Request, response: web.StreamResponse, api_key: str) -> None:
        """Check the API key and set the cookie.

        Raises:
            RateLimited: too many attempts from this address; the key was not checked.
            Unauthenticated: the key is not in API_KEYS.
        """
        address = client_address(
            request.remote, request.headers.getall("X-Forwarded-For", []), self._trusted_proxies
        )
        quota = self._sign_ins.take(neighbourhood(address), SIGN_INS_PER_MINUTE)
        if quota.retry_after_s:
            raise RateLimited("Too many sign-in attempts; retry later", retry_after_s=quota.retry_after_s)
        value = self._sessions.open(api_key)
        if value is None:
            logger.warning("Dashboard rejected an API key", extra={"action": "sign_in"})
            raise Unauthenticated("Unknown API key")
        logger.info("Dashboard accepted a sign-in", extra={"action": "sign_in"})
        response.set_cookie(
            COOKIE,
            value,
            path=PATH,
            max_age=LIFETIME_S,
            httponly=True,
            samesite="Strict",
            secure=self._is_secure(request),
        )

    def sign_out(self, response: web.StreamResponse) -> None:
        response.del_cookie(COOKIE, path=PATH, httponly=True, samesite="Strict")

    def _is_secure(self, request: web.Request) -> bool:
        """Whether the browser uses https."""
        if request.secure or self._public_url.startswith("https:"):
            return True
        forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
        return forwarded == "https" and self._is_from_trusted_proxy(request)

    def _is_from_trusted_proxy(self, request: web.Request) -> bool:
        try:
            address = ip_address(request.remote or "")
        except ValueError:
            return False
        return any(address in network for network in self._trusted_proxies)
