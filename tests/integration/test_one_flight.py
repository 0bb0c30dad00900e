"""Concurrent requests for one agent: one dispatch, and one caller who created it."""

import asyncio

import pytest

from app.errors import LiveKitTimeout
from fakes.faults import UNAVAILABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import DISPATCH, ON_BOTH, App, World, member_token

pytestmark = ON_BOTH


@pytest.mark.usefixtures("worker")
async def test_fifty_callers_at_once_get_one_dispatch(app: App, world: World, livekit: FakeLiveKit) -> None:
    answers = await asyncio.gather(*(app.dispatch() for _ in range(50)))

    assert {answer.status for answer in answers} == {200}
    assert [answer.body["reused"] for answer in answers].count(False) == 1
    assert len({answer.body["dispatchId"] for answer in answers}) == 1
    assert livekit.count("create_dispatch") == 1
    await app.advance(1)
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_people_who_join_and_ask_at_once_get_one_dispatch(
    app: App, world: World, server: FakeServer
) -> None:
    async def come(name: str) -> bool:
        server.join("room", name)
        webhooks = world.post.take()
        asked, *_ = await asyncio.gather(
            app.call("POST", DISPATCH, json_body={"roomName": "room"}, auth=member_token("room")),
            *(app.deliver(webhook) for webhook in webhooks),
        )
        assert asked.status == 200, asked
        return bool(asked.body["reused"])

    reused = await asyncio.gather(*(come(f"person-{number}") for number in range(20)))
    await app.advance(1)

    assert list(reused).count(False) == 1
    assert len(world.agents("room")) == 1
    assert (await app.status())["participantCount"] == 20


@pytest.mark.usefixtures("worker")
async def test_fifty_callers_reuse_an_existing_agent(app: App, livekit: FakeLiveKit) -> None:
    await app.dispatch()
    await app.advance(1)
    answers = await asyncio.gather(*(app.dispatch() for _ in range(50)))

    assert all(answer.body["reused"] for answer in answers)
    assert livekit.count("create_dispatch") == 1


@pytest.mark.usefixtures("worker")
async def test_many_rooms_do_not_wait_for_each_other(app: App, world: World, livekit: FakeLiveKit) -> None:
    stuck = livekit.faults.hang("find_room")
    first = asyncio.create_task(app.dispatch("stuck"))
    await stuck.reached.wait()

    answers = await asyncio.gather(*(app.dispatch(f"room-{number}") for number in range(20)))

    assert {answer.status for answer in answers} == {200}
    stuck.release()
    assert (await first).status == 200
    assert len(world.livekit.server.rooms) == 21


@pytest.mark.usefixtures("worker")
async def test_a_caller_who_goes_away_does_not_cancel_the_others(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    stuck = livekit.faults.hang("create_dispatch")
    first = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    second = asyncio.create_task(app.dispatch())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    stuck.release()

    assert (await second).status == 200
    await app.settle()
    assert len(world.dispatches("room")) == 1
    assert await app.state() == "starting"


@pytest.mark.usefixtures("worker")
async def test_a_failed_request_fails_for_all_callers_and_the_next_one_works(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    livekit.faults.everywhere(FailBefore(UNAVAILABLE))
    answers = await asyncio.gather(*(app.dispatch() for _ in range(10)))
    assert {(answer.status, answer.code) for answer in answers} == {(503, "livekit_unavailable")}
    livekit.faults.mend()

    assert (await app.dispatch()).body["reused"] is False
    assert len(world.dispatches("room")) == 1


@pytest.mark.usefixtures("worker")
async def test_a_delete_during_a_dispatch_leaves_one_or_none(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    stuck = livekit.faults.hang("create_dispatch", acted=True)
    asked = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    deleted = asyncio.create_task(app.end())
    stuck.release()

    assert (await asked).status == 200
    assert (await deleted).status == 200
    await app.advance(1)
    await app.pass_time(10)
    assert world.dispatches("room") == []
    assert world.agents("room") == []


@pytest.mark.usefixtures("worker")
async def test_the_room_closing_during_a_dispatch_leaves_nothing_behind(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    stuck = livekit.faults.hang("create_dispatch")
    asked = asyncio.create_task(app.dispatch())
    await stuck.reached.wait()
    world.clock.advance(1)
    server.delete_room("room")
    for webhook in world.post.take():
        await app.deliver(webhook)
    stuck.release()

    answer = await asked
    assert (answer.status, answer.body["retryable"]) == (503, True)
    await app.settle()
    assert world.dispatches("room") == []
    assert await app.listed() == []


@pytest.mark.usefixtures("worker")
async def test_a_creation_whose_answer_is_always_lost_is_found(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    livekit.faults.script("create_dispatch", FailAfter(LiveKitTimeout("no answer")))

    answer = await app.dispatch()

    assert answer.status == 200
    assert livekit.count("create_dispatch") == 1
    assert world.dispatches("room") == [answer.body["dispatchId"]]
