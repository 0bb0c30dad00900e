"""The static files of the page: no build step, no third-party resources, no inline script or style."""

from pathlib import Path

from aiohttp import web

from app.errors import NotFound
from app.web.files import PageFile

FOLDER = Path(__file__).resolve().parent / "static"

#: Trusted Types keep text, such as a room's name, from becoming markup or script.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: In addition to app/web/security_headers.py.
_HEADERS = {
    # Browsers revalidate each time and get a 304 for an unchanged file: an update shows at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}
_FILES = frozenset(path.name for path in FOLDER.iterdir() if path.name != "index.html")


async def show_page(_request: web.Request) -> web.StreamResponse:
    return PageFile(FOLDER / "index.html", _HEADERS)


async def send_file(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in _FILES:
        raise NotFound("The dashboard has no such file")
    return PageFile(FOLDER / name, _HEADERS)
