"""Giving back an agent that came for somebody who did not get in: it ends, unless people are in by now."""

import pytest

from app.errors import LiveKitUnavailable
from fakes.faults import FailBefore
from fakes.server import FakeServer
from integration.harness import App, World, member_token

pytestmark = pytest.mark.usefixtures("worker")


async def test_an_agent_that_nobody_is_with_is_ended(app: App, world: World) -> None:
    asked = await app.dispatch()
    await app.advance(6)

    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.body["dispatchId"]) == (200, asked.body["dispatchId"])
    await app.advance(1)
    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_one_that_is_still_on_its_way_is_ended(app: App, world: World) -> None:
    await app.dispatch()

    await app.end(onlyIfEmpty="true")

    await app.advance(10)
    assert world.agents("room") == []
    assert await app.state() == "none"


async def test_somebody_whose_webhook_is_not_in_yet_keeps_it(
    app: App, world: World, server: FakeServer
) -> None:
    """The tables say that the room is empty; LiveKit knows better, and is asked."""
    asked = await app.dispatch()
    await app.advance(6)
    server.join("room")
    assert await app.state() == "idle"

    answer = await app.end(onlyIfEmpty="true")

    assert answer.status == 200
    assert answer.body == {
        "success": True,
        "dispatchId": None,
        "message": "Nothing was ended: people are in the room, or it has no agent",
    }
    await app.advance(10)
    assert world.dispatches("room") == [asked.body["dispatchId"]]
    assert await app.state() == "active"


@pytest.mark.parametrize("text", ["false", "0"])
async def test_without_the_wish_to_spare_others_it_is_ended(
    app: App, world: World, server: FakeServer, text: str
) -> None:
    await app.dispatch()
    await app.advance(6)
    server.join("room")

    await app.end(onlyIfEmpty=text)

    await app.advance(1)
    assert world.agents("room") == []


async def test_no_agent_is_no_fault(app: App) -> None:
    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.body["dispatchId"]) == (200, None)


async def test_when_livekit_cannot_say_who_is_in_nothing_is_ended(app: App, world: World) -> None:
    asked = await app.dispatch()
    await app.advance(6)
    world.livekit.faults.always("list_participants", FailBefore(LiveKitUnavailable("down")))

    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.code) == (503, "livekit_unavailable")
    assert world.dispatches("room") == [asked.body["dispatchId"]]


async def test_what_is_neither_true_nor_false_is_refused(app: App) -> None:
    answer = await app.end(onlyIfEmpty="perhaps")

    assert answer.status == 422
    assert "onlyIfEmpty" in answer.body["message"]


async def test_a_member_gives_back_in_its_own_room_only(app: App) -> None:
    query = {"roomName": "room", "onlyIfEmpty": "true"}
    path = "/api/livekit/dispatch-agent"

    own = await app.call("DELETE", path, params=query, auth=member_token("room"))
    other = await app.call("DELETE", path, params=query, auth=member_token("other"))

    assert (own.status, other.status) == (200, 403)
