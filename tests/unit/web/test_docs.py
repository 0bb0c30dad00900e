"""The API page's files: all of them are here, and its policy lets nothing else in."""

import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.web.docs import docs_routes
from fakes.clock import FakeClock
from fakes.web import enveloped_app

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = enveloped_app(FakeClock())
    app.add_routes(docs_routes([]))
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_every_file_that_the_page_names_is_here(client: Client) -> None:
    named = re.findall(r'(?:src|href)="([^"]+)"', await (await client.get("/docs")).text())
    files = [name for name in named if name != "data:,"]
    assert len(files) >= 5
    assert {name: (await client.get(name)).status for name in files} == dict.fromkeys(files, 200)


async def test_the_policy_allows_neither_inline_code_nor_another_host(client: Client) -> None:
    policy = (await client.get("/docs")).headers["Content-Security-Policy"]
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert sources == {"'none'", "'self'", "data:"}


@pytest.mark.parametrize("path", ["/docs", "/docs/docs.js", "/docs/swagger-ui-bundle.js", "/openapi.json"])
async def test_what_has_not_changed_is_not_sent_again(client: Client, path: str) -> None:
    first = await client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize("name", ["__init__.py", "swagger-ui.js", "..", "%2e%2e", "..%2fopenapi.py", "%00"])
async def test_there_is_nothing_else_to_get(client: Client, name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status == 404
