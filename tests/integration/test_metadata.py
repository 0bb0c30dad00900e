"""What an agent was told goes with it: to its job, to its successors, and to nobody who may not see it."""

import json
import logging
from typing import Any

import pytest

from app.lifecycle import Briefing
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, DISPATCH, ON_BOTH, TOKEN, App, World, member_token

SECRET = "customer 4711 owes 12 EUR"
BRIEFING = Briefing(metadata=SECRET, attributes='{"tier":"gold"}', deployment="blue")


def told(world: World, room: str = "room") -> list[Briefing]:
    """What LiveKit was told, dispatch by dispatch."""
    return [dispatch.briefing for dispatch in world.livekit.server.rooms[room].dispatches.values()]


@ON_BOTH
@pytest.mark.parametrize("loss", ["killed", "deaf", "adopted by a call"])
async def test_a_successor_is_told_what_anothers_dispatch_was_told(
    app: App, world: World, server: FakeServer, loss: str
) -> None:
    worker = server.start_worker(AGENT, deployment="blue")
    server.join("room")
    server.create_dispatch("room", AGENT, briefing=BRIEFING)
    await app.advance(6)
    await app.sweep()
    if loss == "adopted by a call":
        assert (await app.dispatch()).body["reused"] is True
    assert await app.state() == "active"

    if loss == "deaf":
        world.agents("room")[0].session_open = False
        assert (await app.dispatch()).body["reused"] is False
    else:
        server.kill(worker)
        server.start_worker(AGENT, deployment="blue")
        await app.pass_time(25)
    await app.advance(1)

    assert told(world) == [BRIEFING]
    assert len(world.agents("room")) == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("metadata", "zone", "sent"),
    [
        ("", {}, "{}"),
        ("free text", {"timezone": "Europe/Berlin"}, "free text"),
        ("[1, 2]", {"timezone": "Europe/Berlin"}, "[1, 2]"),
        ({"a": 1}, {}, '{"a":1}'),
        ({"a": 1}, {"timezone": "Europe/Berlin"}, {"a": 1, "timezone": "Europe/Berlin"}),
        ('{"n": 1.0}', {"timezoneOffset": -60}, '{"timezoneOffset": -60, "n": 1.0}'),
        ({"timezone": "mine"}, {"timezone": "Europe/Berlin"}, '{"timezone":"mine"}'),
        ("{}", {"timezoneOffset": 0}, '{"timezoneOffset": 0}'),
        ("{broken", {"timezoneOffset": 0}, "{broken"),
    ],
)
async def test_the_time_zone_is_merged_in_and_never_put_in_the_place_of_metadata(
    app: App, world: World, metadata: Any, zone: dict[str, Any], sent: Any
) -> None:
    answer = await app.dispatch(metadata=metadata, **zone)

    assert (answer.status, answer.body["metadataApplied"]) == (200, True)
    [briefing] = told(world)
    assert briefing.metadata == sent or json.loads(briefing.metadata) == sent


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_on_reuse_the_agent_keeps_what_it_was_told(app: App, world: World) -> None:
    first = await app.dispatch(metadata={"customer": 1})
    await app.advance(1)

    same = await app.dispatch(metadata='{ "customer": 1 }')
    other = await app.dispatch(metadata={"customer": 2})
    without = await app.dispatch()
    other_zone = await app.dispatch(metadata={"customer": 1}, timezone="Europe/Berlin")

    answers = (first, same, other, without, other_zone)
    assert [a.body["metadataApplied"] for a in answers] == [True, True, False, None, True]
    assert len({a.body["dispatchId"] for a in answers}) == 1
    assert len(world.agents("room")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_caller_may_ask_for_an_agent_that_is_told_something_else(app: App, world: World) -> None:
    world.livekit.server.join("room")
    first = await app.dispatch(metadata={"customer": 1})
    await app.advance(1)

    wanted: dict[str, Any] = {"metadata": {"customer": 2}, "replaceIfMetadataDiffers": True}
    second = await app.dispatch(**wanted)
    await app.advance(6)
    again = await app.dispatch(**wanted)

    assert (second.body["reused"], second.body["metadataApplied"]) == (False, True)
    assert (again.body["reused"], again.body["dispatchId"]) == (True, second.body["dispatchId"])
    assert first.body["dispatchId"] != second.body["dispatchId"]
    assert [json.loads(briefing.metadata) for briefing in told(world)] == [{"customer": 2}]
    assert len(world.agents("room")) == 1
    ended = await app.call("GET", f"{AGENTS}/{first.body['dispatchId']}")
    assert ended.body["agent"]["endReason"] == "replaced"


async def test_a_participant_may_not_choose_what_a_backend_trusts(app: App, world: World) -> None:
    answer = await app.call(
        "POST", DISPATCH, json_body={"roomName": "room", "metadata": "admin"}, auth=member_token("room")
    )

    assert (answer.status, answer.code) == (403, "forbidden")
    assert "MEMBER_METADATA" in answer.body["message"]
    assert world.livekit.count("create_dispatch") == 0


async def test_a_participant_may_where_the_operator_says_so(start_app: StartApp, world: World) -> None:
    app = await start_app(member_metadata=True)
    answer = await app.call(
        "POST", DISPATCH, json_body={"roomName": "room", "metadata": "mine"}, auth=member_token("room")
    )

    assert (answer.status, answer.body["metadataApplied"]) == (200, True)
    assert told(world) == [Briefing(metadata="mine")]


@pytest.mark.usefixtures("worker")
async def test_the_token_endpoint_passes_on_what_the_agent_is_to_be_told(app: App, world: World) -> None:
    agent = {"agent_name": AGENT, "metadata": "m", "attributes": {"a": "b"}, "deployment": "blue"}
    asked = {"room_name": "room", "room_config": {"agents": [agent]}}

    assert (await app.call("POST", TOKEN, json_body=asked)).status == 201

    assert told(world) == [Briefing(metadata="m", attributes='{"a":"b"}', deployment="blue")]


@pytest.mark.usefixtures("worker")
async def test_metadata_is_shown_to_api_keys_only_and_never_logged_or_counted(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await app.dispatch(metadata=SECRET)
    await app.advance(1)
    await app.end()
    shown = await app.call("GET", f"{AGENTS}/{answer.body['dispatchId']}")
    status = await app.status()
    listed = await app.listed(state="ended")
    _, _, metrics = await app.scrape()

    assert shown.body["metadata"] == SECRET
    assert (await app.call("GET", f"{AGENTS}/x", auth=member_token("room"))).status == 403
    for text in (str(status), str(listed), str(answer.body), metrics):
        assert SECRET not in text
    assert all(SECRET not in str(vars(record)) for record in caplog.records)


@pytest.mark.usefixtures("worker")
async def test_without_metadata_nothing_can_differ(app: App) -> None:
    answer = await app.dispatch(replaceIfMetadataDiffers=True)
    assert answer.status == 200
    assert answer.body["warnings"] == ["replaceIfMetadataDiffers has no effect without metadata"]
