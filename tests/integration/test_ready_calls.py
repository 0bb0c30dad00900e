"""Calls that wait until the agent answers: what they wait for, and how each of them ends."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from app.lifecycle import Event, Restart, Signal
from app.web.calls import CallLimiter
from fakes.faults import UNAVAILABLE, FailBefore
from fakes.rooms import FakeWorker
from fakes.server import CONNECTION_TIMEOUT_S, FakeServer
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    API_KEY,
    BOUND_S,
    DISPATCH,
    ON_BOTH,
    ON_POSTGRES,
    Answer,
    App,
    World,
    until,
)
from integration.sockets import connected


async def until_ready(app: App) -> None:
    async with asyncio.timeout(BOUND_S):
        while not (await app.status())["ready"]:  # noqa: ASYNC110 - the status has no event
            await asyncio.sleep(0.01)


def waiting(app: App) -> int:
    """How many calls wait."""
    return sum(map(len, app.service.ready_calls._news.values()))


@asynccontextmanager
async def call(app: App) -> AsyncIterator[asyncio.Task[Answer]]:
    """A call that waits for an agent, from when its dispatch is made until its answer."""
    task = asyncio.create_task(app.dispatch(wait="ready"))
    await until(lambda: waiting(app) or task.done())
    try:
        yield task
        async with asyncio.timeout(BOUND_S):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Agents that answer


@ON_BOTH
async def test_the_answer_comes_once_the_session_has_started(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, starts_after_s=5)
    server.join("room")
    async with call(app) as waits:
        await app.advance(4)
        assert await app.state() == "active"
        assert (await app.status())["ready"] is False
        assert not waits.done()
        assert not world.agents("room")[0].answers("alice")
        await app.advance(2)

    answer = waits.result()
    assert (answer.status, answer.body["ready"], answer.body["readyAfterMs"]) == (200, True, 6_000)
    assert (answer.body["state"], answer.body["reused"]) == ("active", False)
    assert (await app.status())["ready"] is True
    assert world.agents("room")[0].answers("alice")
    lines = [line["event"] for line in world.rows("history")]
    assert lines.count("ready") == 1


@pytest.mark.parametrize("has_probe", [True, False], ids=["plain", "an old LiveKit"])
async def test_an_agent_that_cannot_be_asked_is_ready_once_it_reports_its_session(
    app: App, server: FakeServer, *, has_probe: bool
) -> None:
    server.has_probe = has_probe
    server.start_worker(AGENT, helper=not has_probe, starts_after_s=3)
    async with call(app) as waits:
        await app.advance(1)
        assert (await app.status())["ready"] is False
        await app.advance(3)
    assert (waits.result().status, waits.result().body["ready"]) == (200, True)


async def test_an_agent_that_reports_nothing_is_ready_when_it_has_been_in_for_a_while(
    app: App, plain_worker: FakeWorker
) -> None:
    plain_worker.has_sessions = False
    async with call(app) as waits:
        await app.advance(1)
        assert (await app.status())["ready"] is False
        await app.advance(5)
    assert (waits.result().status, waits.result().body["ready"]) == (200, True)


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_answers_already_is_granted_at_once(app: App) -> None:
    await app.dispatch()
    await app.advance(1)

    answer = await app.dispatch(wait="ready")

    assert (answer.status, answer.body["reused"]) == (200, True)
    assert (answer.body["ready"], answer.body["readyAfterMs"]) == (True, 0)


@pytest.mark.usefixtures("worker")
async def test_a_call_that_does_not_wait_is_told_whether_the_agent_answers(app: App) -> None:
    first = await app.dispatch()
    await app.advance(1)
    second = await app.dispatch()

    assert [(one.body["ready"], one.body["readyAfterMs"]) for one in (first, second)] == [
        (False, None),
        (True, None),
    ]


async def test_a_probe_that_hangs_delays_no_call_for_the_agent(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT)
    await app.dispatch()
    probe = world.livekit.faults.hang("probe")
    world.clock.advance(1)
    for webhook in world.post.take():
        await app.deliver(webhook)
    await probe.reached.wait()

    answer = await app.dispatch()

    assert (answer.status, answer.body["reused"], answer.body["ready"]) == (200, True, False)
    probe.release()
    await app.settle()
    assert (await app.status())["ready"] is True


# What is lost


@ON_BOTH
@pytest.mark.parametrize("with_person", [True, False])
async def test_the_periodic_probe_finds_an_agent_that_nobody_has_checked(
    start_app: StartApp,
    world: World,
    server: FakeServer,
    worker: FakeWorker,
    *,
    with_person: bool,
) -> None:
    """The service died between the agent's join and its first answer."""
    app = await start_app()
    worker.starts_after_s = 5
    await app.dispatch()
    if with_person:
        server.join("room")
    await app.advance(1)
    assert (await app.status())["ready"] is False
    await app.stop()
    world.clock.advance(5)
    app = await start_app()
    assert (await app.status())["ready"] is False

    await app.service.liveness.probe_all()
    await app.settle()

    assert (await app.status())["ready"] is True
    asked = world.livekit.count("probe")
    await app.service.liveness.probe_all()
    assert world.livekit.count("probe") == asked + int(with_person)


@ON_BOTH
async def test_a_call_that_a_stop_has_cut_off_may_be_made_again(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, starts_after_s=5)
    app = await start_app()
    async with call(app) as cut_off:
        await app.advance(1)
        await app.stop()
    assert (cut_off.result().status, cut_off.result().code) == (503, "busy")
    assert cut_off.result().headers["Retry-After"]

    app = await start_app(liveness_interval_s=0)
    async with call(app) as again:
        await app.advance(5)

    assert (again.result().status, again.result().body["ready"]) == (200, True)
    assert again.result().body["reused"] is True
    assert len(world.agents("room")) == 1


async def test_a_stop_answers_who_waits_before_it_gives_up_calls(app: App, server: FakeServer) -> None:
    server.start_worker(AGENT, starts_after_s=300)
    async with call(app) as waits:
        # Without the listener's part of a stop, which gives up the calls under way.
        await app.runner.cleanup()
    assert (waits.result().status, waits.result().code) == (503, "busy")
    await app.stop()


@pytest.mark.usefixtures("worker")
async def test_a_lost_probe_is_repeated(app: App, world: World) -> None:
    world.livekit.faults.script("probe", FailBefore(UNAVAILABLE), FailBefore(UNAVAILABLE))
    async with call(app) as waits:
        await app.advance(1)
    assert (waits.result().status, waits.result().body["ready"]) == (200, True)


@ON_POSTGRES
async def test_a_call_learns_of_an_agent_that_another_replica_has_found_ready(
    start_app: StartApp, server: FakeServer
) -> None:
    server.start_worker(AGENT)
    asked, told = await start_app(), await start_app()
    async with call(asked) as waits:
        await told.advance(1)
    assert (waits.result().status, waits.result().body["ready"]) == (200, True)


# Agents that do not


@ON_BOTH
@pytest.mark.parametrize("with_person", [True, False])
async def test_without_a_worker_the_call_is_told_so(
    app: App, world: World, server: FakeServer, *, with_person: bool
) -> None:
    if with_person:
        server.join("room")
    async with call(app) as waits:
        for _ in range(3):
            await app.pass_time(6)
    answer = waits.result()
    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "no_worker", True)
    assert answer.headers["Retry-After"]
    assert world.livekit.count("create_dispatch") == 3

    server.start_worker(AGENT)
    async with call(app) as waits:
        await app.advance(1)
    assert (waits.result().status, waits.result().body["ready"]) == (200, True)


@pytest.mark.parametrize(("joins_after_s", "starts_after_s"), [(300, 0), (1, 300)])
async def test_an_agent_that_is_too_slow_goes_on_after_the_answer(
    app: App, world: World, server: FakeServer, joins_after_s: float, starts_after_s: float
) -> None:
    await app.dispatch("another")
    server.start_worker(AGENT, joins_after_s=joins_after_s, starts_after_s=starts_after_s)
    server.join("room")
    async with call(app) as waits:
        for _ in range(3):
            await app.pass_time(15)
    answer = waits.result()
    assert (answer.status, answer.code, answer.body["retryable"]) == (504, "join_timeout", True)

    assert len(world.dispatches("room")) == 1
    worker = server.workers[0]
    worker.joins_after_s = worker.starts_after_s = 1
    await app.pass_time(300)
    await until_ready(app)


async def test_the_bound_is_three_join_timeouts_if_that_is_less(
    start_app: StartApp, server: FakeServer
) -> None:
    server.start_worker(AGENT, starts_after_s=300)
    app = await start_app(join_timeout_s=2)
    async with call(app) as waits:
        await app.advance(5)
        assert not waits.done()
        await app.advance(1)
    assert (waits.result().status, waits.result().code) == (504, "join_timeout")


async def test_a_crash_loop_is_told_when_the_restarts_are_exhausted(app: App, server: FakeServer) -> None:
    worker = server.start_worker(AGENT, starts_after_s=300)
    server.join("room")
    async with call(app) as waits:
        for _ in range(4):
            await app.advance(1)
            (_, agent), *_ = server.agents_of(worker)
            assert not waits.done()
            agent.attributes["agent-lifecycle.leaving"] = "failed"
            server.leave("room", agent.identity)
            await app.settle()
    answer = waits.result()
    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "crash_loop", True)


async def test_in_an_empty_room_an_agent_that_fails_is_restarted_for_who_waits(
    app: App, world: World, server: FakeServer
) -> None:
    worker = server.start_worker(AGENT, starts_after_s=300)
    async with call(app) as waits:
        for _ in range(4):
            await app.advance(1)
            (_, agent), *_ = server.agents_of(worker)
            assert not waits.done()
            made = world.livekit.count("create_dispatch")
            agent.attributes["agent-lifecycle.leaving"] = "failed"
            server.leave("room", agent.identity)
            await app.settle()
            await until(
                lambda made=made: waits.done() or world.livekit.count("create_dispatch") > made  # type: ignore[misc]
            )
    assert (waits.result().status, waits.result().code) == (503, "crash_loop")


async def test_an_agent_that_is_not_restarted_is_told_at_once(
    start_app: StartApp, server: FakeServer
) -> None:
    app = await start_app(restart=Restart.NEVER)
    worker = server.start_worker(AGENT, starts_after_s=300)
    async with call(app) as waits:
        await app.advance(1)
        server.kill(worker)
        await app.advance(CONNECTION_TIMEOUT_S)
    assert (waits.result().status, waits.result().code) == (503, "crash_loop")


async def test_a_call_whose_agent_is_ended_is_told_why(app: App, server: FakeServer) -> None:
    server.start_worker(AGENT, starts_after_s=300)
    async with call(app) as waits:
        await app.advance(1)
        await app.end()
    answer = waits.result()
    assert (answer.status, answer.code) == (409, "agent_ended")
    assert "its end was requested" in answer.body["message"]


async def test_a_call_whose_room_is_put_on_hold_is_told_so(app: App, server: FakeServer) -> None:
    server.start_worker(AGENT, starts_after_s=300)
    async with call(app) as waits:
        await app.advance(1)
        (row,) = await app.service.store.to_probe()
        await app.service.processor.advance(row, Signal(event=Event.HOLD_REQUESTED))
    assert (waits.result().status, waits.result().code) == (409, "on_hold")


# Callers who go


async def test_a_caller_who_hangs_up_is_not_waited_for(
    app: App, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.start_worker(AGENT, starts_after_s=300)
    caplog.set_level(logging.INFO)
    body = b'{"roomName": "room", "wait": "ready"}'
    async with connected(app.port) as caller:
        caller.send(
            f"POST {DISPATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await until(lambda: waiting(app))
    await until(lambda: not waiting(app))
    await until(lambda: [one for one in caplog.records if vars(one).get("status") == 499])


async def test_a_call_that_waits_leaves_its_place_to_others(
    start_app: StartApp, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.app.CallLimiter", partial(CallLimiter, limit=1))
    app = await start_app()
    server.start_worker(AGENT, starts_after_s=5)
    async with call(app) as waits:
        assert (await app.dispatch()).status == 200
        one_too_many = await app.dispatch("another", wait="ready")
        assert (one_too_many.status, one_too_many.code) == (503, "busy")
        await app.advance(6)
    assert waits.result().status == 200
    assert (await app.dispatch()).status == 200
