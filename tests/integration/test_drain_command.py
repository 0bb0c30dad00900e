"""What `drain` orders of a running service, what it prints, and when it returns."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from app.cli.calls import CallFailed
from app.cli.drain import Target, drain, is_over, lines, to_json
from app.lifecycle import Briefing
from app.web.workers import LeftItem, WorkerItem
from fakes.server import FakeServer
from integration.harness import AGENT, API_KEY, App, World
from integration.process import run
from integration.reports import ReportingWorker, known, look

ITEM = WorkerItem(
    id="worker-1",
    livekit_id="AW_1",
    agent_names=[AGENT],
    deployment="v1",
    version="1.3",
    helper="0.1.0",
    state="draining",
    slots=4,
    active=0,
    warm=0,
    load=0.1,
    accepting=False,
    draining=True,
    drain_requested=True,
    last_seen="2026-11-24T12:00:00Z",
    left=[],
)
BUSY = msgspec.structs.replace(
    ITEM,
    active=1,
    left=[
        LeftItem(dispatch_id="AD_1", room_name="room", agent_name=AGENT, state="active", participant_count=2)
    ],
)


def url_of(app: App) -> str:
    return f"http://127.0.0.1:{app.port}"


def test_the_lines_say_what_is_left() -> None:
    unaware = msgspec.structs.replace(ITEM, draining=False, deployment="", version="")
    assert lines([BUSY, ITEM, unaware]) == [
        "worker-1 v1 1.3  1 left: room (2 in)",
        "worker-1 v1 1.3  empty",
        "worker-1 - -  empty; it has not heard of it yet",
    ]
    assert lines([]) == ["no worker is drained now"]
    crowd = msgspec.structs.replace(BUSY, active=7, left=[BUSY.left[0]] * 7 if BUSY.left else [])
    assert lines([crowd])[0].endswith(" and 2 more")
    assert '"left":1' in to_json([BUSY, ITEM])


def test_it_is_over_when_every_worker_has_heard_and_has_nothing_left() -> None:
    assert is_over([])
    assert is_over([ITEM])
    assert not is_over([ITEM, BUSY])
    assert not is_over([msgspec.structs.replace(ITEM, draining=False)])


async def test_it_waits_until_the_workers_have_nothing_left(
    app: App, world: World, server: FakeServer
) -> None:
    old = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v1"))
    new = ReportingWorker(world=world, worker=server.start_worker(AGENT))
    for one in (old, new):
        await one.report(app)
    server.create_dispatch("room", AGENT, briefing=Briefing(deployment="v1"))
    server.join("room")
    await app.advance(1)
    await app.sweep()
    await old.report(app)
    seen: list[Sequence[WorkerItem]] = []
    target = Target(worker=None, deployment="v1")
    order = drain(url_of(app), API_KEY, target, cancel=False, wait=True, report=seen.append)
    waiting = asyncio.create_task(order)
    while not seen:  # noqa: ASYNC110 - what it is about has no event
        await asyncio.sleep(0.01)
    assert [one.id for one in seen[0]] == [old.id]
    assert await old.report(app)
    assert not await new.report(app)
    # With the person in.
    await look(app)
    server.leave("room", "alice")
    for _ in range(5):
        await app.advance(1.4)
        await old.report(app)
        await look(app)

    async with asyncio.timeout(10):
        await waiting

    assert is_over(seen[-1])


async def test_it_cancels(app: App, world: World, server: FakeServer) -> None:
    worker = ReportingWorker(world=world, worker=server.start_worker(AGENT))
    await worker.report(app)
    target = Target(worker=worker.id, deployment=None)
    for cancel in (False, True):
        await drain(url_of(app), API_KEY, target, cancel=cancel, wait=False, report=lambda _: None)
        assert [one["drainRequested"] for one in await known(app)] == [not cancel]


async def test_it_says_why_the_order_was_not_taken(app: App) -> None:
    async def order(url: str, key: str, worker: str) -> str:
        target = Target(worker=worker, deployment=None)
        with pytest.raises(CallFailed) as failed:
            await drain(url, key, target, cancel=False, wait=True, report=lambda _: None)
        return str(failed.value)

    assert "Worker not found" in await order(url_of(app), API_KEY, "nobody-1")
    assert "API_KEYS" in await order(url_of(app), "another-key-altogether", "nobody-1")
    assert "--url" in await order("http://127.0.0.1:1", API_KEY, "nobody-1")


async def test_the_command_needs_a_target_and_ends_with_its_exit_codes(app: App) -> None:
    assert (await run("drain")).code == 2
    ended = await run("drain", "--deployment", "v1", "--wait", "--url", url_of(app))
    assert (ended.code, ended.out) == (0, "no worker is drained now\n")
    ended = await run("drain", "--worker", "nobody-1", "--url", url_of(app))
    assert ended.code == 1
    assert "Worker not found" in ended.err
