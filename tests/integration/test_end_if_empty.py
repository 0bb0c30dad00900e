"""DELETE with `onlyIfEmpty`: the agent ends unless people are in."""

import pytest

from app.errors import LiveKitUnavailable
from fakes.faults import FailBefore
from fakes.server import FakeServer
from integration.harness import App, World, member_token

pytestmark = pytest.mark.usefixtures("worker")


async def test_an_agent_without_people_is_ended(app: App, world: World) -> None:
    asked = await app.dispatch()
    await app.advance(6)

    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.body["dispatchId"]) == (200, asked.body["dispatchId"])
    await app.advance(1)
    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_a_starting_agent_is_ended(app: App, world: World) -> None:
    await app.dispatch()

    await app.end(onlyIfEmpty="true")

    await app.advance(10)
    assert world.agents("room") == []
    assert await app.state() == "none"


async def test_a_person_whose_webhook_is_still_missing_keeps_the_agent(
    app: App, world: World, server: FakeServer
) -> None:
    """The room is empty in the tables, but not in LiveKit, which is asked."""
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
async def test_without_only_if_empty_the_agent_is_ended(
    app: App, world: World, server: FakeServer, text: str
) -> None:
    await app.dispatch()
    await app.advance(6)
    server.join("room")

    await app.end(onlyIfEmpty=text)

    await app.advance(1)
    assert world.agents("room") == []


async def test_without_an_agent_the_answer_is_200(app: App) -> None:
    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.body["dispatchId"]) == (200, None)


async def test_while_livekit_is_unavailable_nothing_is_ended(app: App, world: World) -> None:
    asked = await app.dispatch()
    await app.advance(6)
    world.livekit.faults.always("list_participants", FailBefore(LiveKitUnavailable("down")))

    answer = await app.end(onlyIfEmpty="true")

    assert (answer.status, answer.code) == (503, "livekit_unavailable")
    assert world.dispatches("room") == [asked.body["dispatchId"]]


async def test_only_if_empty_must_be_true_or_false(app: App) -> None:
    answer = await app.end(onlyIfEmpty="perhaps")

    assert answer.status == 422
    assert "onlyIfEmpty" in answer.body["message"]


async def test_a_member_ends_agents_in_its_own_room_only(app: App) -> None:
    query = {"roomName": "room", "onlyIfEmpty": "true"}
    path = "/api/livekit/dispatch-agent"

    own = await app.call("DELETE", path, params=query, auth=member_token("room"))
    other = await app.call("DELETE", path, params=query, auth=member_token("other"))

    assert (own.status, other.status) == (200, 403)
