"""The calls to LiveKit and the trips to the database during one request for an agent: none is repeated."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.control.processor import ChangeProcessor
from app.database.transactions import Transactions
from app.errors import LiveKitRefused
from app.logs.context import request_id
from fakes.faults import UNAVAILABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, BOUND_S, ON_BOTH, App, World, until

SCALING = Path(__file__).parents[2] / "docs" / "scaling.md"
LISTS = ["list_dispatches", "list_participants"]

Method = Callable[..., Awaitable[Any]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done on behalf of requests, in the order of the beginnings."""
    steps: list[str] = []

    def noted(method: Method, name: Callable[..., str]) -> Method:
        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            if request_id.get():
                steps.append(name(*args))
            return method(*args, **kwargs)

        return call

    for owner, method, name in (
        (Transactions, "read", lambda *_: "read"),
        (Transactions, "write", lambda *_: "claim"),
        # Its transaction runs in a task of its own.
        (ChangeProcessor, "submit", lambda *_: "commit"),
        (FakeLiveKit, "_call", lambda _self, _act, called, *_: called),
    ):
        monkeypatch.setattr(owner, method, noted(getattr(owner, method), name))
    return steps


async def steps_of_a_dispatch(app: App, steps: list[str]) -> list[str]:
    steps.clear()
    answer = await app.dispatch()
    assert answer.status == 200, answer
    return list(steps)


def documented_steps() -> dict[str, list[str]]:
    """The table of the docs: the steps of each kind of call, in their order."""
    section = SCALING.read_text().split("## What a call takes\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    return {kind.strip(): re.findall(r"`(\w+)`", in_order) for kind, in_order in rows}


async def in_a_new_room(_app: App, _server: FakeServer) -> None:
    pass


async def with_people(app: App, server: FakeServer) -> None:
    server.join("room", "alice")
    await app.settle()


async def ahead_of_the_webhook(_app: App, server: FakeServer) -> None:
    server.join("room", "alice")


async def on_its_way(app: App, server: FakeServer) -> None:
    await with_people(app, server)
    await app.dispatch()


async def at_work(app: App, server: FakeServer) -> None:
    await on_its_way(app, server)
    await app.advance(6)


LIMITED, PLAIN = "makes an agent that has limits", "reuses an agent without the helper"
#: What has happened before each kind of call.
SCENES = {
    "makes an agent in a new room": in_a_new_room,
    "makes an agent in a room whose webhook is on its way": ahead_of_the_webhook,
    "makes an agent in a room with people": with_people,
    LIMITED: with_people,
    "reuses an agent on its way": on_its_way,
    "reuses an agent that works": at_work,
    PLAIN: at_work,
}


def test_each_kind_of_call_in_the_docs_has_a_scene() -> None:
    assert documented_steps().keys() == SCENES.keys()


@ON_BOTH
@pytest.mark.every_case
@pytest.mark.parametrize("kind", SCENES)
async def test_a_call_does_what_the_docs_say_and_nothing_twice(
    kind: str, start_app: StartApp, world: World, server: FakeServer, steps: list[str]
) -> None:
    server.start_worker(AGENT, helper=kind != PLAIN)
    limited = {AGENT: replace(world.config.default_policy, max_agents=2)}
    app = await start_app(agents=limited if kind == LIMITED else {})
    await SCENES[kind](app, server)
    assert await steps_of_a_dispatch(app, steps) == documented_steps()[kind]


@pytest.mark.usefixtures("worker")
async def test_a_room_that_the_tables_have_is_listed_while_livekit_looks_for_it(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.join("room", "alice")
    await app.settle()
    livekit.calls.clear()
    hang = livekit.faults.hang("find_room")
    call = asyncio.create_task(app.dispatch())
    async with asyncio.timeout(BOUND_S):
        await hang.reached.wait()
    await until(lambda: livekit.count("list_dispatches") and livekit.count("list_participants"))
    hang.release()
    assert (await call).status == 200


@pytest.mark.usefixtures("worker")
async def test_what_was_listed_of_another_instance_is_listed_anew(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.join("room", "alice")
    await app.settle()
    livekit.calls.clear()
    hang = livekit.faults.hang("find_room")
    call = asyncio.create_task(app.dispatch())
    await until(lambda: livekit.count("list_dispatches") and livekit.count("list_participants"))
    # The webhooks of this are on their way.
    server.close_room("room")
    server.join("room", "bob")
    hang.release()
    assert (await call).status == 200
    assert livekit.count("list_participants") == 2
    await app.advance(6)
    assert {one.identity for one in server.rooms["room"].people} == {"bob"}
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_a_room_that_livekit_has_no_more_is_made_anew_and_its_lists_are_not_awaited(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer, steps: list[str]
) -> None:
    """LiveKit takes 3 s to say that it cannot list the dispatches of a room that it does not have."""
    server.join("room", "alice")
    await app.settle()
    server.close_room("room")
    hang = livekit.faults.hang("list_dispatches")
    async with asyncio.timeout(BOUND_S):
        found = await steps_of_a_dispatch(app, steps)
    hang.release()
    assert [step for step in found if step not in LISTS] == [
        *("read", "find_room", "commit"),
        *("ensure_room", "commit", "create_dispatch", "commit"),
    ]
    await app.advance(6)
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_what_livekit_says_of_the_lists_of_a_room_that_is_gone_does_not_count(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.join("room", "alice")
    await app.settle()
    server.close_room("room")
    livekit.faults.always("list_participants", FailBefore(LiveKitRefused("LiveKit answered 404 not_found")))
    assert (await app.dispatch()).status == 200


@pytest.mark.usefixtures("worker")
async def test_a_room_that_cannot_be_listed_is_not_taken_for_gone(
    app: App, world: World, livekit: FakeLiveKit, server: FakeServer, steps: list[str]
) -> None:
    server.join("room", "alice")
    await app.settle()
    before = world.tables()
    steps.clear()
    livekit.faults.always("list_participants", FailBefore(UNAVAILABLE))
    assert (await app.dispatch()).status == 503
    assert steps == ["read", "find_room", *LISTS, "find_room"]
    assert world.tables() == before


@pytest.mark.usefixtures("worker")
async def test_a_call_after_an_agent_learns_of_it_by_its_own_commit(
    app: App, world: World, server: FakeServer, steps: list[str]
) -> None:
    server.join("room", "alice")
    await app.dispatch()
    await app.advance(6)
    (former,) = world.agents("room")
    await app.end()
    await app.settle()
    assert (await steps_of_a_dispatch(app, steps)).count("read") == 1
    assert former.identity in {row["former_agent"] for row in world.rows("dispatches")}


async def test_a_replacement_lists_again_only_for_the_agent_that_leaves(
    app: App, server: FakeServer, worker: FakeWorker, steps: list[str]
) -> None:
    server.join("room", "alice")
    await app.dispatch()
    await app.advance(6)
    server.freeze(worker)
    server.start_worker("agent")
    calls = Counter(await steps_of_a_dispatch(app, steps))
    # Before the deletion, after it, and once the agent was removed.
    assert calls.pop("list_participants") == 3
    del calls["read"], calls["commit"]
    assert calls == Counter(
        [
            *("find_room", "list_dispatches", "probe", "ensure_room", "create_dispatch"),
            *("delete_dispatch", "remove_participant"),
        ]
    )
