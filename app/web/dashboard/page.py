"""The page's own files: no build step, nothing from elsewhere, and no script or style but these."""

from pathlib import Path

from aiohttp import web

from app.errors import NotFound

FOLDER = Path(__file__).resolve().parent / "static"

#: Trusted Types let no text become markup or script, whatever a room is called.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: Beyond those that every answer has: app/web/security_headers.py.
_HEADERS = {
    # Asked for anew each time, and answered with 304 as long as it is the same: an update shows at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}
_FILES = frozenset(path.name for path in FOLDER.iterdir() if path.name != "index.html")


async def show_page(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(FOLDER / "index.html", headers=_HEADERS)


async def send_file(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in _FILES:
        raise NotFound("the dashboard has no such file")
    return web.FileResponse(FOLDER / name, headers=_HEADERS)
