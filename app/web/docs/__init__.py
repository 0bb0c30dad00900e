"""The documentation over HTTP: the OpenAPI document, and a page that shows it, all from here."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiohttp import web

from app.errors import NotFound
from app.web.endpoints import AnyEndpoint
from app.web.openapi import PATH, build_document

_FILES = Path(__file__).parent
_ASSETS = {"docs.css": "text/css", "docs.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_routes(endpoints: Sequence[AnyEndpoint]) -> list[web.RouteDef]:
    document = msgspec.json.encode(build_document(endpoints))
    page = (_FILES / "docs.html").read_bytes()
    assets = {name: (_FILES / name).read_bytes() for name in _ASSETS}

    async def show_document(request: web.Request) -> web.Response:
        return _revalidated(request, document, "application/json")

    async def show_page(request: web.Request) -> web.Response:
        return _revalidated(request, page, "text/html")

    async def send_asset(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in assets:
            raise NotFound("the documentation has no such file")
        return _revalidated(request, assets[name], _ASSETS[name])

    return [
        web.get(PATH, show_document),
        web.get("/docs", show_page),
        web.get("/docs/{name}", send_asset),
    ]


def _revalidated(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Kept by browsers, but asked for again each time: a new version shows at once."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    if any(known.value == tag for known in request.if_none_match or ()):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type=content_type, charset="utf-8")
    response.etag = tag
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = _POLICY
    return response
