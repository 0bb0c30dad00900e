"""The OpenAPI document is valid, is the app's, and nothing that it allows breaks the app."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import hypothesis
import pytest
import schemathesis
from aiohttp import web
from hypothesis import strategies as st
from openapi_spec_validator import validate

from app.clock import SteadyClock
from app.config import Config
from app.connections import listen
from app.openapi import build_document
from app.routes import api_endpoints
from app.web import create_app
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.server import FakeServer
from integration.harness import AGENT, API_KEY, KEYPAIR, OTHER_AGENT, App

_CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_key=KEYPAIR,
    agent_names=(AGENT, OTHER_AGENT),
    database_url="",
    cleanup_interval_ms=60_000,
    liveness_interval_s=0,
    api_keys=(API_KEY,),
    rate_limit_per_minute=1_000_000,
)
DOCUMENT = build_document(api_endpoints(_CONFIG))
_SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
_NAMES = {"timezone": st.sampled_from(sorted(available_timezones())), "agent-name": st.just(AGENT)}
for _name, _strategy in _NAMES.items():
    schemathesis.openapi.format(_name, _strategy)


@schemathesis.hook
def filter_body(_context: Any, body: Any) -> bool:
    """Leave out what a schema cannot say.

    What a room configuration may hold is LiveKit's to define; and JSON Schema takes 1.0 for an integer, which
    we do not. test_bad_input.py has cases of both.
    """
    if not isinstance(body, dict):
        return True
    return not (isinstance(body.get("room_config"), dict) and body["room_config"]) and not isinstance(
        body.get("timezoneOffset"), float
    )


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The app in a loop of its own: schemathesis calls over a socket, from this thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="app under schemathesis")
    thread.start()
    clock = FakeClock(SteadyClock().now())
    server = FakeServer(clock, KEYPAIR, Post())
    config = Config(**(vars(_CONFIG) | {"database_url": f"sqlite+aiosqlite:///{folder / 'lifecycle.db'}"}))

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)

    async def start() -> tuple[web.AppRunner, asyncio.Server]:
        app = create_app(config, clock=clock, livekit=FakeLiveKit(server, clock))
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        return runner, await listen(runner, "127.0.0.1", 0)

    with ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(thread.join)
        stack.callback(loop.call_soon_threadsafe, loop.stop)
        runner, listener = run(start())
        stack.callback(lambda: run(runner.cleanup()))
        stack.callback(loop.call_soon_threadsafe, listener.close)
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _serving(tmp_path_factory.mktemp("openapi")) as url:
        yield url


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_the_document_that_is_served_is_that_of_the_route_table(app: App) -> None:
    answer = await app.call("GET", "/openapi.json", auth=None)
    assert answer.body == json.loads(json.dumps(build_document(api_endpoints(app.world.config))))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_an_unchanged_document_is_not_sent_again(app: App) -> None:
    first = await app.call("GET", "/openapi.json", auth=None)
    again = await app.call("GET", "/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304


@_SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_nothing_that_is_sent_breaks_what_the_document_says(
    case: schemathesis.Case[Any], base_url: str
) -> None:
    case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {API_KEY}"})
