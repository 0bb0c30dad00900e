"""The demo page: its files and headers, with a made-up build."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.web.demo import content_security_policy, demo_routes
from fakes.clock import FakeClock
from fakes.web import enveloped_app

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(built: Path) -> AsyncIterator[Client]:
    app = enveloped_app(FakeClock())
    app.add_routes(demo_routes("ws://127.0.0.1:7880", built))
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<title>demo</title>")
    (tmp_path / "assets" / "index-a1b2.js").write_text("1")
    return tmp_path


@pytest.mark.parametrize("path", ["/demo", "/demo/"])
async def test_the_page_is_revalidated_and_has_a_strict_policy(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 200
    assert await answer.text() == "<title>demo</title>"
    assert answer.content_type == "text/html"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]


async def test_an_asset_is_immutable_in_caches(client: Client) -> None:
    answer = await client.get("/demo/assets/index-a1b2.js")
    assert answer.status == 200
    assert answer.content_type.endswith("/javascript")
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("name", ["missing.js", "..", "%2e%2e", "..%2findex.html", "%00"])
async def test_there_is_nothing_else_to_get(client: Client, name: str) -> None:
    answer = await client.get(f"/demo/assets/{name}")
    assert answer.status == 404 or str(answer.url).endswith("/demo/")


async def test_without_a_build_the_page_says_how_to_make_one(client: Client, built: Path) -> None:
    (built / "index.html").unlink()
    answer = await client.get("/demo")
    assert answer.status == 503
    assert "npm --prefix web run demo:build" in await answer.text()


@pytest.mark.parametrize(
    ("url", "sources"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880 http://127.0.0.1:7880"),
        ("http://localhost:7880", "ws://localhost:7880 http://localhost:7880"),
        ("wss://user:secret@lk.example.com/path", "wss://lk.example.com https://lk.example.com"),
        (
            "wss://mine.livekit.cloud",
            "wss://mine.livekit.cloud https://mine.livekit.cloud wss://*.livekit.cloud https://*.livekit.cloud",
        ),
    ],
)
def test_the_policy_names_livekit_over_both_protocols(url: str, sources: str) -> None:
    assert f"connect-src 'self' {sources};" in content_security_policy(url)
