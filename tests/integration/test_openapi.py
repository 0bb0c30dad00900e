"""The OpenAPI document: valid, served as generated, and every request it allows is answered as it says."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from aiohttp import web
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import checks

from app.clock import SteadyClock
from app.config.settings import Config
from app.web.app import create_app
from app.web.listener import Listener, listen
from app.web.openapi import build_document
from app.web.routes import api_endpoints
from app.web.schemas import ROOM_NAME_PATTERN
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.server import FakeServer
from fakes.webhooks import sign
from integration.harness import AGENT, API_KEY, KEYPAIR, OTHER_AGENT, WEBHOOK, App, member_token
from sizes import SIZES

_CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_api_key=KEYPAIR.key,
    livekit_api_secret=KEYPAIR.secret,
    agent_names=(AGENT, OTHER_AGENT),
    database_url="",
    cleanup_interval_ms=60_000,
    liveness_interval_s=0,
    api_keys=(API_KEY,),
    rate_limit_per_minute=1_000_000,
    conversation_memory=True,
)
DOCUMENT = build_document(api_endpoints(_CONFIG))
#: 413 also answers a valid body that is too long; no schema of a field can express that.
_REJECTED = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "5xx"]
_ACCEPTED = ["2xx", "401", "403", "404", "409", "413", "5xx"]
_CHECKS = {
    "negative_data_rejection": {"expected-statuses": _REJECTED},
    "positive_data_acceptance": {"expected-statuses": _ACCEPTED},
}
_SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict({"checks": _CHECKS}))
OWN_ROOM, OTHER_ROOM = "own-room", "other-room"


def _with_two_rooms(part: Any) -> Any:
    """The document with only one room name: a random one would never be the participant's own."""
    if isinstance(part, dict):
        if part.get("pattern") == ROOM_NAME_PATTERN:
            return {"type": "string", "enum": [OWN_ROOM, OTHER_ROOM]}
        return {name: _with_two_rooms(one) for name, one in part.items()}
    return [_with_two_rooms(one) for one in part] if isinstance(part, list) else part


_ROOMS_SCHEMA = schemathesis.openapi.from_dict(
    _with_two_rooms(DOCUMENT), config=schemathesis.Config.from_dict({"checks": _CHECKS})
)
#: The schema cannot say how long a name may be in bytes.
_ROOM_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=64)
#: Nor which characters are invisible.
_PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=64
)
_NAMES = {
    "room-name": _ROOM_NAMES.filter(lambda name: name == name.strip()),
    "participant-identity": _PRINTABLE,
    "participant-name": _PRINTABLE,
    "agent-name": st.just(AGENT),
}
for _name, _strategy in _NAMES.items():
    schemathesis.openapi.format(_name, _strategy)


#: LiveKit defines the fields of a room configuration; the document's schema accepts any object.
_ROOM_CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20),
        "empty_timeout": st.integers(0, 2**32 - 1),
        "departureTimeout": st.integers(0, 2**32 - 1),
        "max_participants": st.integers(0, 2**32 - 1),
        "metadata": st.text(max_size=20),
        "agents": st.lists(
            st.fixed_dictionaries(
                {}, optional={"agent_name": st.sampled_from([AGENT, OTHER_AGENT]), "metadata": st.text()}
            ),
            max_size=3,
        ),
    },
)


@schemathesis.hook
def flatmap_body(_context: Any, body: Any) -> st.SearchStrategy[Any]:
    """Put a room configuration in the place of any other object; test_bad_input.py has wrong ones."""
    if isinstance(body, dict) and body.get("room_config") and isinstance(body["room_config"], dict):
        return _ROOM_CONFIGS.map(lambda config: body | {"room_config": config})
    return st.just(body)


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The app in its own event loop: schemathesis calls over a socket, from this thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="app under schemathesis")
    thread.start()
    clock = FakeClock(SteadyClock().now())
    server = FakeServer(clock, KEYPAIR, Post())
    config = Config(**(vars(_CONFIG) | {"database_url": f"sqlite+aiosqlite:///{folder / 'lifecycle.db'}"}))

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)

    async def start() -> tuple[web.AppRunner, Listener]:
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
        yield f"http://127.0.0.1:{listener.port}"


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _serving(tmp_path_factory.mktemp("openapi")) as url:
        yield url


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


async def test_the_served_document_matches_the_route_table(app: App) -> None:
    answer = await app.call("GET", "/openapi.json", auth=None)
    assert answer.body == json.loads(json.dumps(build_document(api_endpoints(app.world.config))))


async def test_an_unchanged_document_is_not_sent_again(app: App) -> None:
    first = await app.call("GET", "/openapi.json", auth=None)
    again = await app.call("GET", "/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304


_settings = hypothesis.settings(
    max_examples=SIZES.requests,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def _put_days_in_order(query: dict[str, Any]) -> None:
    """No schema can say that `from` is before `to`; test_usage.py has others."""
    days = [name for name in ("from", "to") if re.fullmatch(r"\d{4}-\d\d-\d\d", str(query.get(name)))]
    query |= {name: {"from": "2020-01-01", "to": "2020-02-01"}[name] for name in days}


def _wait_for_no_agent(body: Any) -> None:
    """Time stands still here, so no agent ever answers; test_ready_calls.py has calls that wait."""
    if isinstance(body, dict) and body.get("wait") == "ready":
        del body["wait"]


@_SCHEMA.parametrize()
@_settings
def test_any_request_is_answered_as_documented(case: schemathesis.Case[Any], base_url: str) -> None:
    _put_days_in_order(case.query)
    _wait_for_no_agent(case.body)
    case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {API_KEY}"})


@_SCHEMA.include(path=WEBHOOK).parametrize()
@_settings
def test_any_signed_webhook_is_answered_as_documented(case: schemathesis.Case[Any], base_url: str) -> None:
    def signed(request: Any) -> Any:
        request.headers["Authorization"] = sign(request.body or b"", KEYPAIR)
        return request

    # Every case is signed, whatever its header was; and LiveKit defines what an event must contain.
    unsuited = [
        checks.missing_required_header,
        checks.negative_data_rejection,
        checks.positive_data_acceptance,
    ]
    case.call_and_validate(base_url=base_url, auth=signed, excluded_checks=unsuited)


@_ROOMS_SCHEMA.parametrize()
@_settings
def test_a_participant_with_any_input_reaches_only_its_own_room(
    case: schemathesis.Case[Any], base_url: str
) -> None:
    token = member_token(OWN_ROOM)
    _wait_for_no_agent(case.body)
    answer = case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {token}"})
    if answer.status_code < 300 and case.operation.definition.raw["security"]:
        sent = case.body if isinstance(case.body, dict) else dict(case.query or {})
        assert sent["roomName"] == OWN_ROOM
