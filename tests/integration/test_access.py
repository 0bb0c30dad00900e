"""Access to every route: a route that is missing here fails the tests."""

import dataclasses
import json
from functools import partial
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest

from app.web import admission
from app.web.app import create_app
from app.web.endpoints import Access, AnyEndpoint
from app.web.openapi import errors_of
from app.web.rate_limit import WINDOW_S, RateLimiter
from app.web.routes import api_endpoints
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import API_KEY, Answer, App, World, member_token

#: Pages and what only pages call. The dashboard's own tests are in test_dashboard_access.py.
PAGES = {
    "/openapi.json",
    "/docs",
    "/docs/{name}",
    "/dashboard",
    "/dashboard/",
    "/dashboard/static/{name}",
    "/dashboard/session",
    "/dashboard/stream",
    "/dashboard/agents/{dispatch_id}",
    "/dashboard/agents/end",
    "/dashboard/usage",
    "/demo",
    "/demo/",
    "/demo/assets/{name}",
}

#: How each endpoint is called about one room.
ABOUT: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/livekit/webhook"): {"data": b"{}"},
    ("POST", "/api/livekit/dispatch-agent"): {"json_body": {"roomName": "b"}},
    ("DELETE", "/api/livekit/dispatch-agent"): {"params": {"roomName": "b"}},
    ("GET", "/api/livekit/agent-status"): {"params": {"roomName": "b"}},
    ("POST", "/api/livekit/token"): {"json_body": {"room_name": "b"}},
    ("GET", "/api/livekit/agents"): {"params": {"roomName": "b"}},
    ("GET", "/api/livekit/agents/{dispatch_id}"): {},
    ("POST", "/api/livekit/agents/{dispatch_id}/hold"): {},
    ("POST", "/api/livekit/agents/{dispatch_id}/resume"): {},
    ("GET", "/api/livekit/usage"): {},
    ("GET", "/api/livekit/events"): {},
    ("GET", "/api/livekit/events/endpoints"): {},
    ("POST", "/api/livekit/events/replay"): {"json_body": {"after": 0}},
    ("POST", "/api/livekit/worker/memory/load"): {"data": b"{}"},
    ("POST", "/api/livekit/worker/memory/save"): {"data": b"{}"},
    ("POST", "/api/livekit/worker/memory/forget"): {"data": b"{}"},
    ("DELETE", "/api/livekit/memory"): {"params": {"roomName": "b"}},
    ("POST", "/api/livekit/worker/report"): {"data": b"{}"},
    ("GET", "/api/livekit/workers"): {},
    ("POST", "/api/livekit/workers/{worker_id}/drain"): {},
    ("DELETE", "/api/livekit/workers/{worker_id}/drain"): {},
    ("POST", "/api/livekit/workers/drain"): {"params": {"deployment": "v1"}},
    ("DELETE", "/api/livekit/workers/drain"): {"params": {"deployment": "v1"}},
    ("GET", "/healthz"): {},
    ("GET", "/readyz"): {},
    ("GET", "/metrics"): {},
}


def all_endpoints(world: World, **settings: Any) -> tuple[AnyEndpoint, ...]:
    return api_endpoints(dataclasses.replace(world.config, **settings))


async def ask(app: App, endpoint: AnyEndpoint, auth: str | None, dispatch_id: str = "AD_1") -> Answer:
    path = endpoint.path.replace("{dispatch_id}", dispatch_id).replace("{worker_id}", "worker-1")
    return await app.call(endpoint.method, path, auth=auth, **ABOUT[endpoint.method, endpoint.path])


def test_every_route_is_an_endpoint_or_a_page(world: World) -> None:
    config = dataclasses.replace(world.config, demo_page=True)
    app = create_app(config, clock=world.clock, livekit=world.livekit)
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }
    described = {(endpoint.method, endpoint.path) for endpoint in api_endpoints(config)}
    assert described <= served
    assert {path for _, path in served - described} == PAGES
    assert set(ABOUT) == described


async def test_without_credentials_only_probes_are_open(app: App, world: World) -> None:
    for endpoint in all_endpoints(world):
        if endpoint.access is Access.PROBE or endpoint.answer is None:
            assert endpoint.path in ("/healthz", "/readyz", "/metrics")
            continue
        answer = await ask(app, endpoint, auth=None)
        assert (answer.status, answer.code) == (401, "unauthenticated"), endpoint.path
        assert set(answer.body) == {"success", "code", "message", "retryable", "requestId"}
    assert not any(world.tables().values())


async def test_metrics_can_be_closed(start_app: StartApp) -> None:
    app = await start_app(metrics_public=False)
    assert (await app.call("GET", "/metrics", auth=None)).status == 401
    assert (await app.call("GET", "/metrics", auth=member_token("room"))).status == 403
    assert (await app.scrape(auth=API_KEY))[0] == 200


@pytest.mark.usefixtures("worker")
async def test_a_participant_can_neither_read_nor_change_another_room(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    """The answer is the same whether the room, agent or dispatch exists or not."""
    none_there = {}
    for endpoint in all_endpoints(world):
        if endpoint.access.is_identified:
            none_there[endpoint.method, endpoint.path] = await ask(app, endpoint, member_token("a"))
    server.join("b")
    dispatch_id = (await app.dispatch("b")).body["dispatchId"]
    await app.advance(1)
    before, asked = world.tables(), len(livekit.calls)

    for endpoint in all_endpoints(world):
        if not endpoint.access.is_identified:
            continue
        answer = await ask(app, endpoint, member_token("a"), dispatch_id)
        assert (answer.status, answer.code) == (403, "forbidden"), endpoint.path
        told = answer.body | {"requestId": ""}
        assert told == none_there[endpoint.method, endpoint.path].body | {"requestId": ""}
        assert dispatch_id not in json.dumps(answer.body)

    assert world.tables() == before
    # LiveKit was not asked either: the time of the answer reveals nothing.
    assert len(livekit.calls) == asked
    assert len(world.agents("b")) == 1


async def test_a_token_without_room_join_is_rejected_everywhere(app: App, world: World) -> None:
    for endpoint in all_endpoints(world):
        if endpoint.access.is_identified:
            assert (await ask(app, endpoint, member_token("b", join=False))).status == 403, endpoint.path


async def test_a_removed_api_key_is_rejected(start_app: StartApp, world: World) -> None:
    app = await start_app(api_keys=("another-key-altogether",))
    for endpoint in all_endpoints(world):
        if endpoint.access.is_identified:
            assert (await ask(app, endpoint, API_KEY)).status == 401, endpoint.path


# How often


async def test_a_participant_is_counted_by_itself(start_app: StartApp, world: World) -> None:
    app = await start_app(rate_limit_per_minute=3)
    query = {"roomName": "a"}
    answers = [
        await app.call("GET", "/api/livekit/agent-status", auth=member_token("a"), params=query)
        for _ in range(4)
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == f'"default";q=3;w={WINDOW_S}'
    assert answers[0].headers["RateLimit"] == '"default";r=2;t=20'
    refused = answers[-1]
    assert (refused.code, refused.body["retryable"]) == ("rate_limited", True)
    assert refused.headers["RateLimit"] == '"default";r=0;t=60'

    other = await app.call(
        "GET", "/api/livekit/agent-status", auth=member_token("b"), params={"roomName": "b"}
    )
    assert other.status == 200
    world.clock.advance(int(refused.headers["Retry-After"]))
    again = await app.call("GET", "/api/livekit/agent-status", auth=member_token("a"), params=query)
    assert again.status == 200


async def test_a_key_has_ten_times_as_many(start_app: StartApp) -> None:
    app = await start_app(rate_limit_per_minute=2)
    statuses = [(await app.call("GET", "/api/livekit/agents")).status for _ in range(21)]
    assert statuses == [200] * 20 + [429]


async def test_failures_are_counted_by_address_and_do_not_lock_out_others(start_app: StartApp) -> None:
    app = await start_app(rate_limit_per_minute=2)
    statuses = [(await app.call("GET", "/api/livekit/agents", auth="a-wrong-guess")).status for _ in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert (await app.call("GET", "/api/livekit/agents")).status == 200


async def test_tokens_that_join_no_room_are_counted_too(start_app: StartApp) -> None:
    app = await start_app(rate_limit_per_minute=2)
    token = member_token("b", join=False)
    statuses = [(await app.call("GET", "/api/livekit/agents", auth=token)).status for _ in range(4)]
    assert statuses == [403, 403, 429, 429]


async def test_strangers_cannot_make_a_callers_limit_forgotten(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "RateLimiter", partial(RateLimiter, capacity=5))
    app = await start_app(rate_limit_per_minute=1, trusted_proxies=(ip_network("127.0.0.0/8"),))

    async def ask(auth: str, address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return (await app.call("GET", "/api/livekit/agents", auth=auth, headers=headers)).status

    member = member_token("a")
    assert [await ask(member, "192.0.2.1") for _ in range(2)] == [403, 429]
    strangers = [await ask("a-wrong-guess", f"198.51.100.{number}") for number in range(20)]
    assert set(strangers) == {401}
    assert await ask(member, "192.0.2.1") == 429


async def test_metrics_have_a_limit_of_their_own(
    start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "SCRAPES_PER_MINUTE", 3)
    app = await start_app(rate_limit_per_minute=0)
    assert [(await app.scrape())[0] for _ in range(4)] == [200, 200, 200, 429]
    assert (await app.call("GET", "/healthz", auth=None)).status == 200
    await app.stop()
    keyed = await start_app(metrics_public=False)
    assert {(await keyed.scrape(auth=API_KEY))[0] for _ in range(4)} == {200}


async def test_livekit_and_probes_are_not_rate_limited(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    """LiveKit drops a webhook after several 429, and others share its address."""
    app = await start_app(rate_limit_per_minute=1)
    for path in ("/healthz", "/readyz", "/openapi.json"):
        answers = [await app.call("GET", path, auth=None) for _ in range(5)]
        assert {answer.status for answer in answers} == {200}
        assert "RateLimit" not in answers[0].headers
    forged = [await app.call("POST", "/api/livekit/webhook", auth="forged", data=b"{}") for _ in range(5)]
    assert {answer.status for answer in forged} == {401}
    guesses = [await app.call("GET", "/api/livekit/agents", auth="a-wrong-guess") for _ in range(2)]
    assert guesses[-1].status == 429
    for number in range(30):
        server.join("room", f"person-{number}")
    signed = [await app.deliver(webhook) for webhook in world.post.take()]
    assert len(signed) > 30
    assert {answer.status for answer in signed} == {200}
    assert "RateLimit" not in signed[-1].headers


async def test_the_default_lets_fifty_tabs_in_at_once(app: App) -> None:
    token = member_token("a")
    statuses = [
        (await app.call("GET", "/api/livekit/agent-status", auth=token, params={"roomName": "a"})).status
        for _ in range(50)
    ]
    assert set(statuses) == {200}


# Every response


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("a", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("two words", False),
        ('quote"', False),
        ("é", False),
        ("<script>", False),
    ],
)
async def test_a_valid_request_id_of_the_caller_is_kept(app: App, given: str, *, kept: bool) -> None:
    answer = await app.call("GET", "/nothing", headers={"X-Request-Id": given})
    assert (answer.headers["X-Request-Id"] == given) is kept
    assert answer.body["requestId"] == answer.headers["X-Request-Id"]


async def test_every_response_has_security_headers(start_app: StartApp) -> None:
    app = await start_app(public_url="https://agents.example.com")
    for path in ("/healthz", "/nothing", "/api/livekit/agents", "/docs", "/dashboard"):
        url = f"http://127.0.0.1:{app.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "Server" not in headers
        if path.startswith("/api"):
            assert headers["Cache-Control"] == "no-store"


async def test_a_webhook_answer_has_security_headers_and_no_version(
    app: App, world: World, server: FakeServer
) -> None:
    server.join("room")
    answers = [await app.deliver(webhook) for webhook in world.post.take()]
    answers.append(await app.call("POST", "/api/livekit/webhook"))
    assert {answer.status for answer in answers} == {200, 401}
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers


async def test_without_https_there_is_no_hsts(app: App) -> None:
    assert "Strict-Transport-Security" not in (await app.call("GET", "/healthz")).headers


def test_every_endpoint_documents_its_errors(world: World) -> None:
    for endpoint in all_endpoints(world):
        statuses = {error.status for error in errors_of(endpoint)}
        knows_callers = endpoint.access.is_identified or endpoint.access is Access.WORKER
        assert ({401, 403, 429} <= statuses) is knows_callers, endpoint.path
        assert (429 in statuses) <= (endpoint.access is not Access.LIVEKIT)
