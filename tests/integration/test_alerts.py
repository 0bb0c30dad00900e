"""Alerts of the real service on a fake LiveKit: each is raised once and resolved once."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from fakes.faults import REFUSED, UNAVAILABLE, FailBefore
from fakes.log import log_of_the_process
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, ON_POSTGRES, OTHER_AGENT, App, World


async def raised(app: App) -> list[str]:
    """The raised alerts after a check now."""
    await app.service.alert_monitor.look()
    active = app.service.alert_monitor.active
    return [name for name, is_raised in active.items() if is_raised]


async def all_resolved(app: App) -> bool:
    """True if every alert is resolved after a good minute."""
    await raised(app)
    await app.advance(60)
    return not await raised(app)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    lines = [record for record in caplog.records if vars(record).get("action") == "alert"]
    return [(record.message, vars(record)["alert"], record.levelno) for record in lines]


def once(name: str) -> list[tuple[str, str, int]]:
    return [("Alert raised", name, logging.ERROR), ("Alert resolved", name, logging.WARNING)]


async def test_an_ordinary_visit_raises_no_alert(
    app: App, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.start_worker(AGENT)
    await app.dispatch()
    await app.advance(1)
    server.join("room")
    for _ in range(10):
        await app.pass_time(60)
        assert await raised(app) == []
    server.leave("room")
    await app.pass_time(300)
    assert await raised(app) == []
    assert logged(caplog) == []


async def test_no_webhooks(
    app: App, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The most common misconfiguration: everything works except the webhooks."""
    server.start_worker(AGENT)
    world.post.lossy = True
    await app.advance(30)
    await app.dispatch()
    server.join("room")
    await app.pass_time(15)
    assert await raised(app) == []
    await app.pass_time(60)
    assert await raised(app) == ["no_webhooks"]

    world.post.lossy = False
    server.join("room", "bob")
    await app.settle()

    assert await all_resolved(app)
    assert logged(caplog) == once("no_webhooks")
    (record,) = [one for one in caplog.records if one.message == "Alert raised"]
    assert "  urls:\n    - https://your-service/api/livekit/webhook\n" in vars(record)["advice"]


@ON_POSTGRES
async def test_webhooks_that_another_replica_takes_raise_no_alert(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    taking, other = await start_app(), await start_app()
    await taking.advance(30)
    server.join("room")
    await taking.settle()
    await other.sweep()
    await other.advance(120)
    await other.sweep()

    assert world.rows("webhook_events")
    assert await raised(other) == []


async def test_no_worker(app: App, server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    await app.dispatch(agentName=OTHER_AGENT)
    server.join("room")
    for _ in range(3):
        assert await raised(app) == []
        await app.pass_time(6)
    assert await raised(app) == ["no_worker"]
    # Each retry fails: still the same alert.
    for _ in range(6):
        await app.pass_time(3)
        assert await raised(app) == ["no_worker"]

    server.start_worker(OTHER_AGENT)
    for _ in range(4):
        await app.pass_time(6)

    assert await all_resolved(app)
    assert logged(caplog) == once("no_worker")


async def test_the_monitor_checks_at_once_when_no_worker_takes_jobs(app: App, server: FakeServer) -> None:
    """Its own check comes every 5 s of real time, which no test waits for."""
    await app.dispatch()
    server.join("room")
    await app.settle()
    for _ in range(3):
        await app.pass_time(6)

    await until_raised(app, "no_worker")


async def until_raised(app: App, name: str) -> None:
    async with asyncio.timeout(4):
        while not app.service.alert_monitor.active[name]:  # noqa: ASYNC110 - the monitor has no event
            await asyncio.sleep(0.01)


async def test_creation_failing(app: App, world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.livekit.faults.always("create_dispatch", FailBefore(REFUSED))
    for number in range(3):
        assert await raised(app) == []
        await app.dispatch(f"room-{number}")
    assert await raised(app) == ["creation_failing"]

    world.livekit.faults.mend()
    await app.dispatch("room-4")

    assert await all_resolved(app)
    assert logged(caplog) == once("creation_failing")


async def test_cleanup_stuck(
    start_app: StartApp, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(cleanup_interval_ms=10_000)
    server.start_worker(AGENT)
    await app.dispatch()
    await app.advance(6)
    world.livekit.faults.always("delete_dispatch", FailBefore(UNAVAILABLE))
    await app.pass_time(294)
    for _ in range(2):
        assert await raised(app) == []
        await app.pass_time(10)
    assert await raised(app) == ["cleanup_stuck"]

    world.livekit.faults.mend()
    await app.pass_time(10)

    assert await all_resolved(app)
    assert logged(caplog) == once("cleanup_stuck")


async def test_cleanup_failures(
    start_app: StartApp, world: World, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    # The monitor looks by itself as well, at whatever moment: 30 agents at once are no alert here.
    app = await start_app(alert_max_agents=100)
    server.start_worker(AGENT)
    for number in range(10):
        await app.dispatch(f"room-{number}")
    await app.advance(6)
    world.livekit.faults.script("delete_dispatch", *([FailBefore(UNAVAILABLE)] * 2))
    await raised(app)
    for number in range(9):
        await app.end(f"room-{number}")
    assert await raised(app) == []

    await app.end("room-9")

    assert await raised(app) == ["cleanup_failures"]

    # The two are retried, and more agents are removed: 2 of 42 is below half of the limit.
    await app.pass_time(60)
    for number in range(30):
        await app.dispatch(f"another-{number}")
    await app.advance(6)
    for number in range(30):
        await app.end(f"another-{number}")

    assert await all_resolved(app)
    assert logged(caplog) == once("cleanup_failures")


async def test_too_many_agents(
    start_app: StartApp, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(alert_max_agents=2)
    server.start_worker(AGENT)
    for number in range(2):
        await app.dispatch(f"room-{number}")
    assert await raised(app) == []
    await app.dispatch("room-2")
    assert await raised(app) == ["too_many_agents"]
    # One more, and one less, and still too many: the same alert.
    await app.dispatch("room-3")
    assert await raised(app) == ["too_many_agents"]
    await app.end("room-3")
    await app.advance(6)
    assert await raised(app) == ["too_many_agents"]

    for number in range(2):
        await app.end(f"room-{number}")
    await app.advance(6)

    assert await all_resolved(app)
    assert logged(caplog) == once("too_many_agents")


async def test_log_drops(start_app: StartApp, world: World, caplog: pytest.LogCaptureFixture) -> None:
    with log_of_the_process(world.clock, "INFO", rate_limit=100) as log:
        app = await start_app(log_counts=log.handler.counts)
        assert await raised(app) == []
        for number in range(300):
            # Not alike, or they would be counted in one line.
            logging.getLogger(f"test.{number}").info("Something happened")
        assert await raised(app) == ["log_drops"]

        await app.advance(300)

        assert await all_resolved(app)
    assert logged(caplog) == once("log_drops")


async def test_database_failing(app: App, world: World, caplog: pytest.LogCaptureFixture) -> None:
    # Two checks raise it; the monitor's own first check, at the start, would be one of them.
    await app.service.alert_monitor.close()
    world.database_faults.down = True
    assert await raised(app) == []
    assert await raised(app) == ["database_failing"]

    world.database_faults.down = False

    assert await all_resolved(app)
    assert logged(caplog) == once("database_failing")


async def test_a_database_that_can_only_be_read(app: App, world: World, server: FakeServer) -> None:
    world.database_faults.read_only = True
    server.join("room")
    (started, _) = world.post.take()
    assert (await app.deliver(started)).status == 503
    await raised(app)
    assert await raised(app) == ["database_failing"]

    world.database_faults.read_only = False
    assert (await app.deliver(started)).status == 200

    assert await all_resolved(app)


@pytest.fixture
async def channel() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of posts: its URL, and what has arrived."""
    posts: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        posts.append(json.loads(await request.read()))
        return web.Response()

    receiving = web.Application()
    receiving.router.add_post("/hook", receive)
    runner = web.AppRunner(receiving, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/hook", posts
    await runner.cleanup()


@pytest.mark.parametrize("redacted", [False, True])
async def test_alerts_are_posted(
    start_app: StartApp,
    server: FakeServer,
    channel: tuple[str, list[dict[str, Any]]],
    redacted: bool,  # noqa: FBT001 - what a parameter of a test is
) -> None:
    url, posts = channel
    app = await start_app(alert_webhook_url=url, log_redact=redacted)
    await app.dispatch("alices-room")
    server.join("alices-room")
    for _ in range(3):
        await app.pass_time(6)
    assert await raised(app) == ["no_worker"]
    server.start_worker(AGENT)
    for _ in range(4):
        await app.pass_time(6)
    assert await all_resolved(app)
    # A stop waits a moment for pending posts.
    await app.stop()

    first, last = posts
    assert [(post["alert"], post["status"]) for post in posts] == [
        ("no_worker", "raised"),
        ("no_worker", "resolved"),
    ]
    assert first["resolved"] is None
    assert first["since"] == last["since"] < last["resolved"]
    for post in posts:
        assert (post["rooms"] == ["alices-room"]) is not redacted
        assert "alices-room" not in post["text"]
        assert len(post["rooms"]) == 1


async def test_an_unreachable_receiver_does_not_disturb_the_service(
    start_app: StartApp, server: FakeServer
) -> None:
    server.start_worker(AGENT)
    app = await start_app(alert_webhook_url="http://127.0.0.1:1/hook", alert_max_agents=1)
    await app.dispatch("a")
    await app.dispatch("b")
    assert await raised(app) == ["too_many_agents"]

    assert (await app.dispatch("c")).status == 200
    await app.stop()
