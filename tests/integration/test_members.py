"""What a participant may do with the agent of its room, setting by setting."""

import asyncio
import time
from typing import Any

import jwt
import pytest

from app.config.agents import MemberEnd
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import (
    API_KEY,
    DISPATCH,
    KEYPAIR,
    ON_BOTH,
    STATUS,
    TOKEN,
    Answer,
    App,
    World,
    member_token,
)

pytestmark = pytest.mark.usefixtures("worker")

TTL_S = 300
#: Beyond the first TTL; LiveKit closes a room with nobody in at 360 s.
_LONGER_S = 50


async def request_agent(app: App, auth: str | None = None) -> Answer:
    """As a participant, unless `auth` is somebody else's."""
    return await app.call("POST", DISPATCH, json_body={"roomName": "room"}, auth=auth or member_token("room"))


async def end(app: App, **params: str) -> Answer:
    return await app.call(
        "DELETE", DISPATCH, params={"roomName": "room", **params}, auth=member_token("room")
    )


# Ending the agent


async def test_by_default_a_participant_ends_the_agent_for_all(
    app: App, world: World, server: FakeServer
) -> None:
    asked = await request_agent(app)
    server.join("room")
    await app.advance(6)

    answer = await end(app)

    assert (answer.status, answer.body["dispatchId"]) == (200, asked.body["dispatchId"])
    await app.advance(1)
    assert world.agents("room") == []


async def test_with_if_empty_a_participant_ends_no_agent_that_people_use(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start_app(member_end=MemberEnd.IF_EMPTY)
    asked = await request_agent(app)
    server.join("room")
    await app.advance(6)

    answer = await end(app)
    again = await end(app, onlyIfEmpty="false")

    assert (answer.status, answer.body["dispatchId"]) == (200, None)
    assert "MEMBER_END" in answer.body["message"]
    assert again.body == answer.body
    assert world.dispatches("room") == [asked.body["dispatchId"]]
    server.leave("room")
    await app.settle()
    assert (await end(app)).body["dispatchId"] == asked.body["dispatchId"]


@pytest.mark.parametrize("params", [{}, {"onlyIfEmpty": "true"}])
async def test_with_never_a_participant_ends_no_agent(
    start_app: StartApp, world: World, livekit: FakeLiveKit, params: dict[str, str]
) -> None:
    app = await start_app(member_end=MemberEnd.NEVER)
    asked = await request_agent(app)
    await app.advance(6)
    before = len(livekit.calls)

    answer = await end(app, **params)

    assert (answer.status, answer.code) == (403, "forbidden")
    assert "MEMBER_END" in answer.body["message"]
    assert len(livekit.calls) == before
    assert world.dispatches("room") == [asked.body["dispatchId"]]


@pytest.mark.parametrize("rule", [MemberEnd.IF_EMPTY, MemberEnd.NEVER])
async def test_an_api_key_ends_any_agent_whatever_participants_may(
    start_app: StartApp, server: FakeServer, rule: MemberEnd
) -> None:
    app = await start_app(member_end=rule)
    asked = await request_agent(app)
    server.join("room")
    await app.advance(6)

    assert (await app.end()).body["dispatchId"] == asked.body["dispatchId"]


# Keeping it


async def test_by_default_a_participants_call_restarts_the_ttl(app: App) -> None:
    await request_agent(app)
    await app.advance(6)
    await app.pass_time(TTL_S - 10)

    assert (await request_agent(app)).body["reused"] is True
    await app.pass_time(_LONGER_S)

    assert await app.state() == "idle"


@ON_BOTH
async def test_who_is_not_in_keeps_no_agent_where_the_operator_says_so(
    start_app: StartApp, world: World
) -> None:
    app = await start_app(member_extends_ttl=False)
    first = await request_agent(app)
    starting = await request_agent(app)
    await app.advance(6)
    before = await app.status()
    for _ in range(5):
        await app.pass_time(50)
        answer = await request_agent(app)
        assert (answer.body["reused"], answer.body["dispatchId"]) == (True, first.body["dispatchId"])
        assert answer.body["ttlExpiresAt"] == before["ttlExpiresAt"]
    assert await app.status() == before

    await app.pass_time(50)

    assert starting.body["ttlExpiresAt"] == first.body["ttlExpiresAt"]
    assert world.agents("room") == []
    assert await app.state() == "none"


@ON_BOTH
async def test_who_is_in_keeps_it_all_the_same(start_app: StartApp, server: FakeServer) -> None:
    app = await start_app(member_extends_ttl=False)
    first = await request_agent(app)
    await app.advance(6)
    server.join("room")
    # LiveKit is asked: the webhook of the join is still on its way.
    asked = await request_agent(app)
    await app.settle()
    await app.pass_time(TTL_S)
    server.leave("room")
    await app.settle()
    await app.pass_time(TTL_S - 1)

    assert (asked.body["reused"], asked.body["ttlExpiresAt"]) == (True, None)
    assert (await app.status())["dispatchId"] == first.body["dispatchId"]


async def test_an_api_key_keeps_it_all_the_same(start_app: StartApp) -> None:
    app = await start_app(member_extends_ttl=False)
    await request_agent(app)
    await app.advance(6)
    await app.pass_time(TTL_S - 10)

    await request_agent(app, API_KEY)
    await app.pass_time(_LONGER_S)

    assert await app.state() == "idle"


async def test_an_api_keys_call_is_not_lost_in_a_participants_at_the_same_time(
    start_app: StartApp, livekit: FakeLiveKit
) -> None:
    app = await start_app(member_extends_ttl=False)
    await request_agent(app)
    await app.advance(6)
    await app.pass_time(TTL_S - 10)
    stuck = livekit.faults.hang("find_room")
    of_a_member = asyncio.ensure_future(request_agent(app))
    await stuck.reached.wait()
    of_a_backend = asyncio.ensure_future(request_agent(app, API_KEY))
    stuck.release()

    answers = await asyncio.gather(of_a_member, of_a_backend)
    await app.pass_time(_LONGER_S)

    assert [answer.body["reused"] for answer in answers] == [True, True]
    assert await app.state() == "idle"


# Who is one


def token(*, video: dict[str, Any], **claims: Any) -> str:
    given = {
        "iss": KEYPAIR.key,
        "exp": int(time.time()) + 3_600,
        "sub": "alice",
        "video": {"roomJoin": True, "room": "room", **video},
        **claims,
    }
    return jwt.encode(given, KEYPAIR.secret, algorithm="HS256")


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        (token(video={}, kind="agent"), "kind agent"),
        (token(video={}, kind="egress"), "kind egress"),
        (token(video={"agent": True}), "grants agent"),
        (token(video={"recorder": True}), "grants recorder"),
        (token(video={"hidden": True}), "grants hidden"),
        (token(video={}, sub=""), "sub"),
    ],
    ids=["agent", "egress", "agent grant", "recorder", "hidden", "nobody"],
)
async def test_the_token_of_a_program_is_403_everywhere(
    app: App, livekit: FakeLiveKit, auth: str, told: str
) -> None:
    before = len(livekit.calls)
    answers = [
        await request_agent(app, auth),
        await app.call("DELETE", DISPATCH, params={"roomName": "room"}, auth=auth),
        await app.call("GET", STATUS, params={"roomName": "room"}, auth=auth),
    ]

    assert {(answer.status, answer.code) for answer in answers} == {(403, "forbidden")}
    assert all(told in answer.body["message"] for answer in answers)
    assert len(livekit.calls) == before


async def test_a_token_for_a_century_is_403_where_the_operator_limits_it(start_app: StartApp) -> None:
    century = token(video={}, exp=int(time.time()) + 36_500 * 86_400)
    statuses = []
    for days in (0, 7):
        app = await start_app(member_token_max_days=days)
        for auth in (century, member_token("room")):
            answer = await app.call("GET", STATUS, params={"roomName": "room"}, auth=auth)
            statuses.append(answer.status)
        await app.stop()

    assert statuses == [200, 200, 403, 200]


# What gets into a token


@pytest.mark.parametrize(
    ("fields", "setting", "place"),
    [
        (
            {"room_config": {"egress": {"room": {"fileOutputs": [{"filepath": "x"}]}}}},
            "token_egress",
            "$.room_config.egress",
        ),
        (
            {"participant_attributes": {"lk.publish_on_behalf": "agent-x"}},
            "token_lk_attributes",
            "$.participant_attributes",
        ),
    ],
)
async def test_what_livekits_programs_act_on_is_422_unless_it_is_switched_on(
    app: App, start_app: StartApp, livekit: FakeLiveKit, fields: dict[str, Any], setting: str, place: str
) -> None:
    wanted = {"room_name": "room", **fields}
    wanted["room_config"] = {"agents": [{}], **wanted.get("room_config", {})}
    allowed_by: dict[str, Any] = {setting: True}
    refused = await app.call("POST", TOKEN, json_body=wanted)
    assert livekit.count("create_dispatch") == 0
    await app.stop()
    allowing = await start_app(**allowed_by)
    allowed = await allowing.call("POST", TOKEN, json_body=wanted)

    assert (refused.status, refused.code) == (422, "invalid")
    assert setting.upper() in refused.body["message"]
    assert f"at `{place}`" in refused.body["message"]
    assert allowed.status == 201
