"""What browsers are told with every response: nothing of ours is a page to frame, script, sniff or keep."""

from collections.abc import Mapping
from types import MappingProxyType

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
