"""Security headers of every response: no framing, no scripts, no sniffing, no caching."""

from collections.abc import Mapping
from types import MappingProxyType

#: A page that needs more sets its own, and keeps it.
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
    """HSTS is sent only if https is known to work: `public_url` begins with https://."""
    https = public_url is not None and public_url.startswith("https://")
    return dict(HEADERS) | ({"Strict-Transport-Security": f"max-age={_YEAR_S}"} if https else {})
