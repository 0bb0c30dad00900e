"""The demo page under `/demo`: files built from web/, with a strict content security policy."""

from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from app.errors import NotFound
from app.web.files import PageFile

BUILT = Path(__file__).resolve().parents[2] / "web" / "demo" / "dist"

_NOT_BUILT = """The demo page is not built.

Build it with npm:     npm --prefix web ci && npm --prefix web run demo:build
Or start everything:   uv run dev      (builds it when needed; npm is not needed)

Both need a checkout of the project: an installed package does not contain the page.

Then reload this page.
"""


def demo_routes(livekit_url: str, folder: Path = BUILT) -> list[web.RouteDef]:
    """The page and its assets; the page may connect to `livekit_url` and to the service only."""
    policy = content_security_policy(livekit_url)

    async def show_page(_request: web.Request) -> web.StreamResponse:
        # Checked on each request: the page may be built while the service runs.
        page = folder / "index.html"
        if not page.is_file():
            return web.Response(status=503, text=_NOT_BUILT, headers={"Cache-Control": "no-store"})
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
            "Permissions-Policy": "microphone=(self), camera=()",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return PageFile(page, headers)

    async def send_asset(request: web.Request) -> web.StreamResponse:
        asset = folder / "assets" / request.match_info["name"]
        if not asset.is_file():
            raise NotFound("The demo page has no such file")
        # The name contains the hash of the content.
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        return PageFile(asset, headers)

    return [
        web.get("/demo", show_page),
        web.get("/demo/", show_page),
        web.get(r"/demo/assets/{name:[\w.-]+}", send_asset),
    ]


def content_security_policy(livekit_url: str) -> str:
    """Allows the service's own files and endpoints, and LiveKit; no inline script, no framing."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src 'self' blob: mediastream:",
            f"connect-src 'self' {' '.join(_livekit_sources(livekit_url))}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _livekit_sources(livekit_url: str) -> list[str]:
    """Where livekit-client connects: the WebSocket, and the same host over HTTP to get failure reasons."""
    parts = urlsplit(livekit_url)
    secure = parts.scheme in ("wss", "https")
    schemes = ("wss", "https") if secure else ("ws", "http")
    hosts = [parts.netloc.rpartition("@")[2]]
    if parts.hostname and parts.hostname.endswith(".livekit.cloud"):
        # LiveKit Cloud redirects clients to a regional host.
        hosts.append("*.livekit.cloud")
    return [f"{scheme}://{host}" for host in hosts for scheme in schemes]
