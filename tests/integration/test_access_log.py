"""The log line of an answered request."""

import logging
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fakes.clock import FakeClock
from fakes.web import enveloped_app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def ask(clock: FakeClock, path: str, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Ask a small application, and give what its one line says."""

    async def quick(_request: web.Request) -> web.Response:
        return web.Response()

    async def slow(_request: web.Request) -> web.Response:
        clock.advance(1.5)
        return web.Response()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        clock.advance(3_600)
        await response.write_eof()
        return response

    async def broken(_request: web.Request) -> web.Response:
        raise web.HTTPBadGateway

    async def not_ready(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    async def moved(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/quick/there")

    app = enveloped_app(clock)
    for handler in (quick, slow, stream, broken, moved):
        app.router.add_get(f"/{handler.__name__}/{{room}}", handler)
    app.router.add_get("/readyz", not_ready)
    caplog.set_level(logging.DEBUG, "app.web.envelope")
    async with TestClient(TestServer(app)) as client:
        await client.get(path, allow_redirects=False)
    (record,) = (record for record in caplog.records if record.name == "app.web.envelope")
    return vars(record)


@pytest.mark.parametrize(
    ("path", "route", "status", "duration_ms", "level"),
    [
        ("/quick/alice", "/quick/{room}", 200, 0, "DEBUG"),
        ("/moved/alice", "/moved/{room}", 302, 0, "DEBUG"),
        ("/stream/alice", "/stream/{room}", 200, 3_600_000, "DEBUG"),
        ("/slow/alice", "/slow/{room}", 200, 1_500, "INFO"),
        ("/nowhere/alice", None, 404, 0, "INFO"),
        ("/broken/alice", "/broken/{room}", 502, 0, "WARNING"),
        ("/readyz", "/readyz", 503, 0, "DEBUG"),
    ],
)
async def test_the_level_of_a_request_line_depends_on_its_outcome(
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    path: str,
    route: str | None,
    status: int,
    duration_ms: float,
    level: str,
) -> None:
    line = await ask(clock, f"{path}?access_token=secret", caplog)
    assert (line["levelname"], line["msg"], line["args"]) == (level, "Request answered", ())
    assert (line["method"], line["route"], line["status"]) == ("GET", route, status)
    assert line["duration_ms"] == duration_ms
    assert not any("alice" in str(value) or "secret" in str(value) for value in line.values())
