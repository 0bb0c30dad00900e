"""Frontends of other people: their pages, built and served, with a backend that asks for their tokens."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from devstack.local_server import LocalServer
from devstack.ports import LOOPBACK
from devstack.service import API_KEY

_PAGES = Path(__file__).parent / "pages"
_WEB = Path(__file__).parents[2] / "web"
_TOKEN = "/api/livekit/token"
_SERVICE = "/api/livekit/{path}"
_PASSED_ON = ("Cookie", "Origin", "Sec-Fetch-Site")
_BUILD_TIMEOUT_S = 120


def build_pages(folder: Path) -> None:
    """Build the pages into `folder`, with the node_modules of web/, which its demo page has installed."""
    # Node looks for modules beside the sources, and upwards from there.
    sources = _WEB / "node_modules" / ".browser-test-pages"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(_PAGES, sources)
    vite = _WEB / "node_modules" / ".bin" / "vite"
    command = [str(vite), "build", "--outDir", str(folder), "--emptyOutDir", "--logLevel", "warn"]
    subprocess.run(command, cwd=sources, check=True, timeout=_BUILD_TIMEOUT_S)  # noqa: S603 - our own


class Frontend:
    """A server of the pages, on an origin of its own.

    Its backend passes token requests on as docs/frontend.md says: with an API key that no page sees, and with
    the cookie both ways. What else is for the service goes there as it is, as through a proxy.
    """

    def __init__(self, pages: Path, port: int, service_url: str) -> None:
        self._pages = pages
        self._port = port
        self._service_url = service_url
        self._server: LocalServer | None = None
        self._client: aiohttp.ClientSession | None = None

    def url(self, page: str, parameters: Mapping[str, str], *, host: str = LOOPBACK) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"{self.origin(host)}/{page}.html?{query}"

    def origin(self, host: str = LOOPBACK) -> str:
        return f"http://{host}:{self._port}"

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        headers |= {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        assert self._client is not None
        body = await request.read()
        async with self._client.post(f"{self._service_url}{_TOKEN}", data=body, headers=headers) as answer:
            response = web.Response(
                body=await answer.read(), status=answer.status, content_type="application/json"
            )
            for cookie in answer.headers.getall("Set-Cookie", []):
                response.headers.add("Set-Cookie", cookie)
            return response

    async def _pass_through(self, request: web.Request) -> web.Response:
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": "application/json"}
        assert self._client is not None
        url, body = f"{self._service_url}{request.path_qs}", await request.read()
        async with self._client.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type="application/json"
            )

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post(_TOKEN, self._pass_on)
        app.router.add_route("*", _SERVICE, self._pass_through)
        app.router.add_static("/", self._pages)
        self._client = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._server = LocalServer(app, self._port)
        await self._server.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._client:
            await self._client.close()
        if self._server:
            await self._server.stop()
