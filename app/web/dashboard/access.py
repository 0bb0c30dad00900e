"""Access control of the dashboard: the session cookie, and the check for requests of other sites."""

import logging
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from app.clock import Clock
from app.config.settings import Config
from app.errors import Forbidden, RateLimited, Unauthenticated
from app.web.bodies import json_response, parse_body, read_body
from app.web.client_address import address_of, neighbourhood
from app.web.cookies import cookie_name, read_cookie
from app.web.dashboard.sessions import LIFETIME_S, Session, Sessions
from app.web.keys import SECURE_CONNECTIONS, SERVICE
from app.web.rate_limit import RateLimiter

logger = logging.getLogger(__name__)

COOKIE = "lifecycle_dashboard"
PATH = "/dashboard"

BODY_LIMIT = 4 * 1024

#: Sign-in attempts with wrong keys from one address: enough for typing errors, far too few for guessing.
SIGN_INS_PER_MINUTE = 10


class SignIn(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    api_key: str


class SessionState(msgspec.Struct, rename="camel", kw_only=True):
    #: False: API_KEYS is not set, so nobody can sign in.
    configured: bool
    signed_in: bool


class DashboardAccess:
    def __init__(self, config: Config, clock: Clock) -> None:
        self._sessions = Sessions(config.api_keys, config.livekit_key.secret, clock)
        self._sign_ins = RateLimiter(clock)
        self._public_url = config.public_url or ""
        self._trusted_proxies = config.trusted_proxies

    @property
    def configured(self) -> bool:
        return self._sessions.configured

    async def session(self, request: web.Request) -> Session | None:
        """The session; None if there is none, or it was signed out. Raises: DatabaseUnavailable."""
        session = self._signed_session(request)
        if session is None or await request.app[SERVICE].store.sessions.has(session.id):
            return None
        return session

    async def require_session(self, request: web.Request) -> Session:
        """Raises: Unauthenticated: there is no valid session."""
        session = await self.session(request)
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

    async def sign_in(self, request: web.Request) -> web.Response:
        """Check the API key in the body, and set the cookie.

        The attempt is counted before its body is read, and given back if the key is right: nobody can lock
        out others at the same address.

        Raises:
            RateLimited: too many attempts with wrong keys from this address.
            Unauthenticated: the key is not in API_KEYS.
        """
        address = neighbourhood(address_of(request, self._trusted_proxies))
        quota = self._sign_ins.take(address, SIGN_INS_PER_MINUTE)
        refused = RateLimited("Too many sign-in attempts; retry later", retry_after_s=quota.retry_after_s)
        if quota.retry_after_s and not request.content.is_eof():
            raise refused
        value = self._sessions.open(parse_body(await read_body(request, BODY_LIMIT), SignIn).api_key)
        if quota.retry_after_s and value is None:
            raise refused
        if value is None:
            logger.warning("Dashboard rejected an API key", extra={"action": "sign_in"})
            raise Unauthenticated("Unknown API key")
        if not quota.retry_after_s:
            self._sign_ins.give_back(address, SIGN_INS_PER_MINUTE)
        logger.info("Dashboard accepted a sign-in", extra={"action": "sign_in"})
        response = json_response(SessionState(configured=True, signed_in=True))
        secure = request.app[SECURE_CONNECTIONS].includes(request)
        response.set_cookie(
            cookie_name(COOKIE, secure=secure),
            value,
            path=_cookie_path(secure=secure),
            max_age=LIFETIME_S,
            httponly=True,
            samesite="Strict",
            secure=secure,
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session, on every replica, whoever has its cookie. Raises: DatabaseUnavailable."""
        if session := self._signed_session(request):
            await request.app[SERVICE].store.sessions.add(session.id, session.expires_at)
        response = json_response(SessionState(configured=self.configured, signed_in=False))
        for secure in (False, True):
            response.del_cookie(
                cookie_name(COOKIE, secure=secure),
                path=_cookie_path(secure=secure),
                httponly=True,
                samesite="Strict",
                secure=secure,
            )
        return response

    def _signed_session(self, request: web.Request) -> Session | None:
        secure = request.app[SECURE_CONNECTIONS].includes(request)
        return self._sessions.read(read_cookie(request, COOKIE, secure=secure))


def _cookie_path(*, secure: bool) -> str:
    return "/" if secure else PATH
