"""Status, list, history, DELETE and CORS."""

import pytest

from app.config.environment import origins
from fakes.faults import UNAVAILABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    AGENTS,
    DISPATCH,
    ON_BOTH,
    OTHER_AGENT,
    STATUS,
    App,
    World,
    member_token,
)

# Status


async def test_without_a_dispatch_the_status_is_none(app: App) -> None:
    assert await app.status() == {"hasAgent": False, "state": "none"}


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_status_follows_people(app: App, server: FakeServer) -> None:
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    created_at = "2027-01-15T08:00:00.000Z"
    assert await app.status() == {
        "hasAgent": True,
        "state": "starting",
        "dispatchId": dispatch_id,
        "createdAt": created_at,
        "lastActivityAt": created_at,
        "participantCount": 0,
        "ttlExpiresAt": "2027-01-15T08:05:00.000Z",
        "sessionEndsAt": None,
        "endingSoon": False,
        "ready": False,
    }
    await app.advance(1)
    server.join("room")
    server.join("room", "bob")
    await app.settle()
    assert await app.status() == {
        "hasAgent": True,
        "state": "active",
        "dispatchId": dispatch_id,
        "createdAt": created_at,
        "lastActivityAt": "2027-01-15T08:00:01.000Z",
        "participantCount": 2,
        "ttlExpiresAt": None,
        "sessionEndsAt": None,
        "endingSoon": False,
        "ready": True,
    }
    await app.advance(9)
    server.leave("room")
    server.leave("room", "bob")
    await app.settle()
    status = await app.status()
    assert (status["state"], status["participantCount"]) == ("idle", 0)
    assert status["ttlExpiresAt"] == "2027-01-15T08:05:10.000Z"


@pytest.mark.usefixtures("worker")
async def test_a_member_may_ask_about_its_room(app: App) -> None:
    await app.dispatch()
    answer = await app.call("GET", STATUS, params={"roomName": "room"}, auth=member_token("room"))

    assert (answer.status, answer.body["hasAgent"]) == (200, True)


@ON_BOTH
async def test_an_unavailable_agent_is_reported_as_no_agent(app: App, server: FakeServer) -> None:
    server.join("room")
    await app.settle()
    await app.dispatch()
    for _ in range(3):
        await app.pass_time(16)

    status = await app.status()

    assert (status["hasAgent"], status["state"], status["dispatchId"]) == (False, "unavailable", None)


# The end on request


@pytest.mark.usefixtures("worker")
async def test_delete_removes_the_agent_even_with_people(app: App, world: World, server: FakeServer) -> None:
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    server.join("room")
    await app.settle()

    answer = await app.end()

    assert (answer.status, answer.body) == (
        200,
        {"success": True, "dispatchId": dispatch_id, "message": "The agent was ended"},
    )
    assert world.agents("room") == []
    assert world.dispatches("room") == []
    assert await app.status() == {"hasAgent": False, "state": "none"}


@pytest.mark.usefixtures("worker")
async def test_after_a_delete_no_agent_comes_until_the_next_call(
    app: App, world: World, server: FakeServer
) -> None:
    await app.dispatch()
    await app.advance(1)
    server.join("room")
    await app.settle()
    await app.end()
    await app.pass_time(30)
    server.join("room", "bob")
    await app.pass_time(30)
    assert world.agents("room") == []

    assert (await app.dispatch()).body["reused"] is False


@pytest.mark.usefixtures("worker")
async def test_delete_of_a_starting_agent_leaves_none(app: App, world: World) -> None:
    """LiveKit ends a dispatch younger than 5 s only at the 5 s mark; its agent joins before that."""
    await app.dispatch()
    assert (await app.end()).status == 200

    await app.advance(1)
    await app.pass_time(10)

    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_an_agent_that_comes_after_its_dispatch_was_deleted_does_not_stay(
    app: App, world: World, server: FakeServer
) -> None:
    """LiveKit assigns the job to a worker although the dispatch is deleted, and then never ends it."""
    server.start_worker(AGENT, joins_after_s=6)
    await app.dispatch()
    assert (await app.end()).status == 200
    await app.advance(7)
    assert world.agents("room") == []
    assert await app.state() == "none"


async def test_a_call_replaces_an_agent_without_a_dispatch(
    app: App, world: World, server: FakeServer
) -> None:
    """It cannot be kept, since nothing in LiveKit would end it, and it must not block a new one."""
    server.start_worker(AGENT, joins_after_s=6)
    await app.dispatch()
    await app.end()
    await app.dispatch()
    await app.advance(13)
    assert len(world.agents("room")) == len(world.dispatches("room")) == 1


async def test_delete_of_nothing_is_200(app: App) -> None:
    answer = await app.end()

    assert answer.status == 200
    assert answer.body == {"success": True, "dispatchId": None, "message": "The room has no agent"}


@pytest.mark.usefixtures("worker")
async def test_delete_removes_an_untracked_agent(app: App, world: World, server: FakeServer) -> None:
    world.post.lossy = True
    server.create_dispatch("room", AGENT)
    await app.advance(6)

    assert (await app.end()).status == 200

    assert world.dispatches("room") == []
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_delete_of_one_agent_name_leaves_the_other(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(OTHER_AGENT)
    await app.dispatch()
    await app.dispatch(agentName=OTHER_AGENT)
    await app.advance(1)

    await app.end(agentName=OTHER_AGENT)

    assert [agent.agent_name for agent in world.agents("room")] == [AGENT]


@pytest.mark.usefixtures("worker")
async def test_delete_while_livekit_is_unavailable_changes_nothing(
    app: App, world: World, livekit: FakeLiveKit
) -> None:
    await app.dispatch()
    await app.advance(1)
    before = world.tables()
    livekit.faults.everywhere(FailBefore(UNAVAILABLE))

    answer = await app.end()

    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "livekit_unavailable", True)
    assert world.tables() == before


@ON_BOTH
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("fault", [FailBefore(UNAVAILABLE), FailAfter(UNAVAILABLE)])
async def test_a_delete_that_failed_half_way_is_finished_in_the_background(
    app: App, world: World, livekit: FakeLiveKit, fault: FailBefore | FailAfter
) -> None:
    await app.dispatch()
    await app.advance(6)
    livekit.faults.script("delete_dispatch", fault)

    answer = await app.end()

    assert (answer.status, answer.body["retryable"]) == (503, True)
    await app.pass_time(61)
    assert world.agents("room") == []
    assert await app.status() == {"hasAgent": False, "state": "none"}


# List and history


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_list_has_live_agents_newest_first(app: App, world: World) -> None:
    for room in ("a", "b", "c"):
        await app.dispatch(room)
        await app.advance(1)
    await app.end("b")

    listed = await app.listed()

    assert [agent["roomName"] for agent in listed] == ["c", "a"]
    assert listed[1] == {
        "dispatchId": world.dispatches("a")[0],
        "roomName": "a",
        "agentName": AGENT,
        "state": "idle",
        "createdAt": "2027-01-15T08:00:00.000Z",
        "lastActivityAt": "2027-01-15T08:00:00.000Z",
        "participantCount": 0,
        "ttlExpiresAt": "2027-01-15T08:05:00.000Z",
        "sessionEndsAt": None,
        "endingSoon": False,
        "agentIdentity": world.agents("a")[0].identity,
        "deployment": "",
        "endReason": None,
    }


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_list_is_filtered_by_state(app: App) -> None:
    for room in ("a", "b"):
        await app.dispatch(room)
        await app.advance(1)
    await app.end("b")

    ended = await app.listed(state="ended")
    assert [(agent["roomName"], agent["endReason"]) for agent in ended] == [("b", "requested")]
    assert [agent["roomName"] for agent in await app.listed(state="ended,idle")] == ["b", "a"]
    assert await app.listed(state="active") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_list_comes_in_pages(app: App, world: World) -> None:
    for number in range(7):
        await app.dispatch(f"room-{number}")
        # Two of each age: the cursor has to distinguish them.
        world.clock.advance(number % 2)

    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        answer = await app.call("GET", AGENTS, params={"limit": "2"} | cursor)
        found += [agent["roomName"] for agent in answer.body["agents"]]
        if answer.body["nextCursor"] is None:
            break
        cursor = {"cursor": answer.body["nextCursor"]}

    assert sorted(found) == [f"room-{number}" for number in range(7)]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_history_has_every_event(app: App, server: FakeServer) -> None:
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    server.join("room")
    await app.settle()
    await app.end()

    answer = await app.call("GET", f"{AGENTS}/{dispatch_id}")

    assert answer.status == 200
    assert (answer.body["agent"]["dispatchId"], answer.body["agent"]["endReason"]) == (
        dispatch_id,
        "requested",
    )
    steps = [(line["event"], line["fromState"], line["toState"]) for line in answer.body["history"]]
    assert steps == [
        ("intent", None, "creating"),
        ("dispatched", "creating", "starting"),
        ("agent_in", "starting", "idle"),
        ("ready", "idle", "idle"),
        ("people_in", "idle", "active"),
        ("end_requested", "active", "ending"),
        ("removed", "ending", "ended"),
    ]
    assert [line["participantCount"] for line in answer.body["history"]] == [0, 0, 0, 0, 1, 1, 1]


# Pages of other origins

PAGE = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_a_preflight_of_a_known_origin_is_allowed(start_app: StartApp) -> None:
    app = await start_app(cors_origins=(PAGE, "https://other.example.com"))
    answer = await app.call("OPTIONS", DISPATCH, auth=None, headers={"Origin": PAGE} | PREFLIGHT)

    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("HTTPS://App.Example.com:443/", PAGE),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
    ],
)
async def test_an_origin_may_be_configured_in_any_form(start_app: StartApp, written: str, sent: str) -> None:
    app = await start_app(cors_origins=origins(written))
    answer = await app.call("OPTIONS", DISPATCH, auth=None, headers={"Origin": sent} | PREFLIGHT)

    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, sent)


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", f"{PAGE}.evil.com", "https://APP.example.com"]
)
async def test_a_preflight_of_another_origin_is_not(start_app: StartApp, origin: str) -> None:
    app = await start_app(cors_origins=(PAGE,))
    answer = await app.call("OPTIONS", DISPATCH, auth=None, headers={"Origin": origin} | PREFLIGHT)

    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_without_origins_there_are_no_cors_headers(app: App) -> None:
    answer = await app.call("OPTIONS", DISPATCH, auth=None, headers={"Origin": PAGE} | PREFLIGHT)

    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_failures_can_be_read_by_a_known_origin(start_app: StartApp, livekit: FakeLiveKit) -> None:
    app = await start_app(cors_origins=(PAGE,))
    origin = {"Origin": PAGE}
    livekit.faults.everywhere(FailBefore(UNAVAILABLE))
    answers = [
        await app.call("GET", STATUS, auth=None, headers=origin),
        await app.call("GET", STATUS, headers=origin),
        await app.call("GET", "/nothing", headers=origin),
        await app.call("PUT", DISPATCH, headers=origin),
        await app.call("POST", DISPATCH, headers=origin, data=b" " * 200_000),
        await app.call("POST", DISPATCH, headers=origin, json_body={"roomName": "room"}),
    ]

    assert [answer.status for answer in answers] == [401, 422, 404, 405, 413, 503]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_a_star_allows_every_origin(start_app: StartApp) -> None:
    app = await start_app(cors_origins=("*",))
    answer = await app.call("GET", "/healthz", auth=None, headers={"Origin": "https://any.example"})

    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://any.example")
