"""Cookies of a secure connection: whether it is one, and the name that only it can set."""

from collections.abc import Sequence

from aiohttp import web

from app.config.environment import Network
from app.web.client_address import is_from_trusted_proxy

#: Browsers take a cookie of this name over https only, for this very host, from this very host (RFC 6265bis).
_HOST = "__Host-"


class SecureConnections:
    def __init__(self, public_url: str | None, trusted_proxies: Sequence[Network]) -> None:
        self._is_public_https = (public_url or "").startswith("https:")
        self._trusted_proxies = trusted_proxies

    def includes(self, request: web.Request) -> bool:
        """Whether the browser uses https, which ends at the proxy where there is one."""
        if request.secure or self._is_public_https:
            return True
        forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
        if forwarded == "https" and is_from_trusted_proxy(request, self._trusted_proxies):
            return True
        # A page of an https origin can reach us over https only, or on its own machine.
        return request.headers.get("Origin", "").startswith("https://")


def cookie_name(name: str, *, secure: bool) -> str:
    return f"{_HOST}{name}" if secure else name


def read_cookie(request: web.Request, name: str, *, secure: bool) -> str | None:
    """The cookie, by the name that its connection can set; None also when there are two of it.

    Of two a neighbouring host has set one, and nobody can say which.
    """
    pairs = [
        pair.strip().partition("=")
        for header in request.headers.getall("Cookie", [])
        for pair in header.split(";")
    ]
    safe = [value for given, _, value in pairs if given == cookie_name(name, secure=True)]
    plain = [value for given, _, value in pairs if given == name]
    values = safe if safe or secure else plain
    return values[0] if len(values) == 1 else None
