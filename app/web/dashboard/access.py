"""Who may look and act: the session cookie, and whether a request comes from our own page."""

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

#: Tries to sign in from one address: enough for a typing error, far too few to guess.
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
        """Raises: Unauthenticated: nobody is signed in, or no longer."""
        session = self.session(request)
        if session is None:
            raise Unauthenticated("sign in to the dashboard first")
        return session

    def require_own_page(self, request: web.Request) -> None:
        """Let only our own page change anything, whatever cookie comes along.

        Raises:
            Forbidden: another site's page sends this, or nothing says whose page does.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            own = site == "same-origin"
        else:
            # Browsers leave it out where the page came over plain http from another machine.
            origin = urlsplit(request.headers.get("Origin", "")).netloc
            own = bool(origin) and origin in (request.host, urlsplit(self._public_url).netloc)
        if not own:
            raise Forbidden("only the dashboard's own page may do this")

    def let_in(self, request: web.Request, response: web.StreamResponse, api_key: str) -> None:
        """Set the cookie for whoever knows a key.

        Raises:
            RateLimited: this address tries too often; the key was not looked at.
            Unauthenticated: the key is none of API_KEYS.
        """
        address = client_address(
            request.remote, request.headers.getall("X-Forwarded-For", []), self._trusted_proxies
        )
        quota = self._sign_ins.take(neighbourhood(address), SIGN_INS_PER_MINUTE)
        if quota.retry_after_s:
            raise RateLimited("too many tries to sign in; wait a little", retry_after_s=quota.retry_after_s)
        value = self._sessions.open(api_key)
        if value is None:
            logger.warning("A key was refused at the dashboard", extra={"action": "sign_in"})
            raise Unauthenticated("this is none of the API keys")
        logger.info("Somebody has signed in to the dashboard", extra={"action": "sign_in"})
        response.set_cookie(
            COOKIE,
            value,
            path=PATH,
            max_age=LIFETIME_S,
            httponly=True,
            samesite="Strict",
            secure=self._is_secure(request),
        )

    def let_out(self, response: web.StreamResponse) -> None:
        response.del_cookie(COOKIE, path=PATH, httponly=True, samesite="Strict")

    def _is_secure(self, request: web.Request) -> bool:
        """Whether the browser reaches us by https."""
        if request.secure or self._public_url.startswith("https:"):
            return True
        forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
        return forwarded == "https" and self._comes_by_proxy(request)

    def _comes_by_proxy(self, request: web.Request) -> bool:
        try:
            address = ip_address(request.remote or "")
        except ValueError:
            return False
        return any(address in network for network in self._trusted_proxies)
