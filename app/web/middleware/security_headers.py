"""What browsers are told with every response: nothing of ours is a page to frame, script, sniff or keep."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import web

#: A page that needs more sets its own, which stands.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "; ".join(
            f"{directive} 'none'"
            for directive in ("default-src", "base-uri", "form-action", "frame-ancestors")
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)

_YEAR_S = 365 * 86_400


def headers_for(public_url: str | None) -> dict[str, str]:
    """Browsers are told to insist on https only where it is known to work: `public_url` is an https one."""
    https = public_url is not None and public_url.startswith("https://")
    return dict(HEADERS) | ({"Strict-Transport-Security": f"max-age={_YEAR_S}"} if https else {})


def security_headers(public_url: str | None) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For `on_response_prepare`, so that failures and streams have them too."""
    headers = headers_for(public_url)

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        # Versions help only those who look for holes in them.
        response.headers.popall("Server", None)

    return add
