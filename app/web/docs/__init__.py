"""The documentation over HTTP: the OpenAPI document, and Swagger UI to read it in, all from here."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import msgspec
from aiohttp import web

from app.errors import NotFound
from app.web.endpoints import AnyEndpoint
from app.web.files import PageFile
from app.web.openapi import PATH, build_document

_FILES = Path(__file__).parent
_SWAGGER_UI = Path(str(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist")))
_ASSETS = {
    path.name: path
    for path in (
        *(_FILES / name for name in ("docs.css", "docs.js")),
        *(_SWAGGER_UI / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")),
    )
}
_HEADERS = {
    # Kept by browsers, but asked for again each time: a new version shows at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def docs_routes(endpoints: Sequence[AnyEndpoint]) -> list[web.RouteDef]:
    # When somebody asks: most processes never build it.
    @cache
    def document_and_tag() -> tuple[bytes, str]:
        document = msgspec.json.encode(build_document(endpoints))
        return document, hashlib.sha256(document).hexdigest()[:32]

    async def show_document(request: web.Request) -> web.Response:
        document, tag = document_and_tag()
        if any(known.value == tag for known in request.if_none_match or ()):
            response = web.Response(status=304, headers=_HEADERS)
        else:
            response = web.Response(body=document, content_type="application/json", headers=_HEADERS)
        response.etag = tag
        return response

    async def show_page(_request: web.Request) -> PageFile:
        return PageFile(_FILES / "docs.html", _HEADERS)

    async def send_asset(request: web.Request) -> PageFile:
        path = _ASSETS.get(request.match_info["name"])
        if path is None:
            raise NotFound("The API page has no such file")
        return PageFile(path, _HEADERS)

    return [
        web.get(PATH, show_document),
        web.get("/docs", show_page),
        web.get("/docs/{name}", send_asset),
    ]
