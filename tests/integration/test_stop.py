"""Graceful stop: accepted work is stored, running work is finished, no task is left."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from app.clock import SteadyClock
from fakes.clock import FakeClock
from fakes.faults import Hang
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.server import FakeServer
from integration import process
from integration.conftest import StartApp
from integration.harness import AGENT, API_KEY, DISPATCH, KEYPAIR, ON_BOTH, App, World
from integration.sockets import connected

#: How long platforms wait before they kill a process.
STOPPED_WITHIN_S = 10


@ON_BOTH
async def test_webhooks_under_way_are_stored(app: App, world: World, server: FakeServer) -> None:
    for number in range(200):
        server.join(f"room-{number % 10}", f"person-{number}")
    under_way = [asyncio.create_task(app.deliver(webhook)) for webhook in world.post.take()]
    # The first answer has arrived, so the others are anywhere between the socket and the database.
    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    await app.runner.cleanup()

    answers = await asyncio.gather(*under_way, return_exceptions=True)
    taken = [answer for answer in answers if not isinstance(answer, BaseException) and answer.status == 200]
    assert taken
    assert len(world.rows("webhook_events")) >= len(taken)
    await app.stop()


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_dispatch_under_way_is_finished(app: App, world: World, livekit: FakeLiveKit) -> None:
    stuck = livekit.faults.hang("create_dispatch")
    asked = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    stopping = asyncio.create_task(app.runner.cleanup())
    stuck.release()

    answer = await asked
    await stopping

    assert (answer.status, answer.body["state"]) == (200, "starting")
    assert [row["state"] for row in world.rows("dispatches")] == ["starting"]
    await app.stop()


@pytest.mark.usefixtures("worker")
async def test_a_stop_removes_no_agent(app: App, world: World, start_app: StartApp) -> None:
    await app.dispatch()
    await app.advance(1)
    await app.stop()

    assert len(world.agents("room")) == 1
    again = await start_app()
    assert (await again.dispatch()).body["reused"] is True


@ON_BOTH
async def test_a_stop_in_the_middle_of_the_first_reconcile(start_app: StartApp, livekit: FakeLiveKit) -> None:
    stuck = livekit.faults.hang("list_rooms")
    app = await start_app(ready=False)
    await stuck.reached.wait()

    await app.stop()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@ON_BOTH
async def test_a_stop_in_the_middle_of_an_effect_is_bounded_and_leaves_a_deadline(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.start_worker("agent")
    await app.dispatch()
    await app.advance(6)
    livekit.faults.hang("delete_dispatch")
    world.clock.advance(300)
    await app.service.sweeper.sweep()

    await app.stop()

    (row,) = world.rows("dispatches")
    assert row["state"] == "ending"
    assert row["due_at"] is not None


@pytest.mark.usefixtures("worker")
async def test_a_stop_does_not_wait_for_a_livekit_that_hangs(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer
) -> None:
    """With a call, a deadline, a sweep and an inspection of a room under way."""
    await app.dispatch()
    await app.advance(6)
    hanging = Hang()
    livekit.faults.everywhere(hanging)
    world.clock.advance(300)
    for deadline in await app.service.store.deadlines():
        app.service.sweeper.act(deadline)
    server.create_dispatch("elsewhere", AGENT)
    asked = asyncio.create_task(app.dispatch("another"))
    app.service.reconciler.spawn_inspection("elsewhere")
    await hanging.reached.wait()

    async with asyncio.timeout(STOPPED_WITHIN_S):
        await app.stop()

    answer = await asked
    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "busy", True)
    assert answer.headers["Retry-After"]
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_stop_under_load_is_in_time_and_its_callers_are_told(tmp_path: Path) -> None:
    """A LiveKit and a database that hang, callers of all endpoints, and peers that neither send nor read."""
    database = tmp_path / "lifecycle.db"
    async with (
        process.silent_livekit() as livekit_url,
        process.running(DATABASE_URL=str(database), LIVEKIT_URL=livekit_url) as service,
        AsyncExitStack() as stack,
    ):
        calls = [
            asyncio.create_task(service.call("DELETE", f"{DISPATCH}?roomName=room-{number}"))
            for number in range(4)
        ]
        calls += [
            asyncio.create_task(service.call("POST", DISPATCH, {"roomName": f"room-{number}"}))
            for number in range(4, 8)
        ]
        for path in ("/openapi.json", "/docs/swagger-ui-bundle.js"):
            reader = await stack.enter_async_context(connected(service.port, receives=2_048))
            reader.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 400)
        slow = await stack.enter_async_context(connected(service.port))
        slow.send(
            f"POST {DISPATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        holder = stack.enter_context(closing(sqlite3.connect(database, isolation_level=None)))
        while await service.get("/healthz") != 200:
            pass
        holder.execute("BEGIN EXCLUSIVE")
        webhook = FakeServer(FakeClock(SteadyClock().now()), KEYPAIR, post := Post())
        webhook.join("another-room")
        hooks = [asyncio.create_task(service.deliver(one)) for one in post.take()]
        await asyncio.wait(calls, timeout=0.5)

        service.process.terminate()
        async with asyncio.timeout(STOPPED_WITHIN_S):
            # 1: it does not wait for a thread that waits for the file's lock.
            assert await service.process.wait() in (0, 1)
        answers = await asyncio.gather(*calls)
        assert {(status, code) for status, code in answers} <= {
            (503, "busy"),
            (503, "database_unavailable"),
            (504, "livekit_timeout"),
        }
        assert set(await asyncio.gather(*hooks)) == {503}
        assert b"HTTP/1.1 503" in await slow.end()


@ON_BOTH
async def test_a_stop_in_the_middle_of_a_sweep_leaves_nothing_behind(
    start_app: StartApp, livekit: FakeLiveKit
) -> None:
    app = await start_app(cleanup_interval_ms=50)
    stuck = livekit.faults.hang("list_rooms")
    await stuck.reached.wait()

    async with asyncio.timeout(STOPPED_WITHIN_S):
        await app.stop()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
