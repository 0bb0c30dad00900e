"""The calls to LiveKit during one request for an agent: none is repeated."""

from collections import Counter

import pytest

from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.harness import App


async def calls_of_a_dispatch(app: App, livekit: FakeLiveKit) -> Counter[str]:
    livekit.calls.clear()
    answer = await app.dispatch()
    assert answer.status == 200, answer
    return Counter(call.method for call in livekit.calls)


@pytest.mark.usefixtures("worker")
async def test_a_first_call_creates_the_room_and_the_dispatch(app: App, livekit: FakeLiveKit) -> None:
    assert await calls_of_a_dispatch(app, livekit) == Counter(["find_room", "ensure_room", "create_dispatch"])


@pytest.mark.usefixtures("worker")
async def test_a_call_in_a_room_without_an_agent_lists_it_once(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.join("room", "alice")
    assert await calls_of_a_dispatch(app, livekit) == Counter(
        ["find_room", "list_dispatches", "list_participants", "ensure_room", "create_dispatch"]
    )


@pytest.mark.usefixtures("worker")
async def test_a_reuse_probes_the_agent_and_repeats_no_call(
    app: App, livekit: FakeLiveKit, server: FakeServer
) -> None:
    server.join("room", "alice")
    await app.dispatch()
    await app.advance(6)
    assert await calls_of_a_dispatch(app, livekit) == Counter(
        ["find_room", "list_dispatches", "list_participants", "probe"]
    )


async def test_a_replacement_lists_again_only_for_the_agent_that_leaves(
    app: App, livekit: FakeLiveKit, server: FakeServer, worker: FakeWorker
) -> None:
    server.join("room", "alice")
    await app.dispatch()
    await app.advance(6)
    server.freeze(worker)
    server.start_worker("agent")
    calls = await calls_of_a_dispatch(app, livekit)
    # Before the deletion, after it, and once the agent was removed.
    assert calls.pop("list_participants") == 3
    assert calls == Counter(
        [
            *("find_room", "list_dispatches", "probe", "ensure_room", "create_dispatch"),
            *("delete_dispatch", "remove_participant"),
        ]
    )
