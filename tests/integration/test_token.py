"""LiveKit's standard token endpoint: its agents go through the lifecycle, not into the token."""

from typing import Any

import jwt
import pytest

from app.config.settings import Environment, SessionRoomsBy
from fakes.faults import UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, KEYPAIR, ON_BOTH, OTHER_AGENT, STATUS, TOKEN, Answer, App, World


def claims(answer: Answer) -> dict[str, Any]:
    assert answer.status == 201, answer
    assert set(answer.body) == {"server_url", "participant_token"}
    assert answer.body["server_url"] == "ws://livekit.test"
    found: dict[str, Any] = jwt.decode(answer.body["participant_token"], KEYPAIR.secret, algorithms=["HS256"])
    return found


async def test_a_token_has_the_requested_fields(app: App) -> None:
    asked = {
        "room_name": "room",
        "participant_identity": "alice",
        "participant_name": "Alice",
        "participant_metadata": "m",
        "participant_attributes": {"a": "b"},
    }
    token = claims(await app.call("POST", TOKEN, json_body=asked))

    assert (token["sub"], token["name"], token["metadata"]) == ("alice", "Alice", "m")
    assert token["attributes"] == {"a": "b"}
    assert (token["video"]["room"], token["video"]["roomJoin"]) == ("room", True)
    assert "roomAdmin" not in token["video"]


@pytest.mark.parametrize("data", [b"", b"{}"])
async def test_every_field_may_be_left_out(app: App, data: bytes) -> None:
    tokens = [claims(await app.call("POST", TOKEN, data=data)) for _ in range(2)]

    assert len({token["sub"] for token in tokens}) == 2
    assert len({token["video"]["room"] for token in tokens}) == 2


async def test_the_room_outlives_the_ttl_and_keeps_what_is_longer(app: App) -> None:
    short = claims(await app.call("POST", TOKEN, json_body={"room_config": {"departure_timeout": 20}}))
    long = claims(await app.call("POST", TOKEN, json_body={"room_config": {"departureTimeout": 9000}}))

    assert short["roomConfig"]["departureTimeout"] == 360
    assert long["roomConfig"]["departureTimeout"] == 9_000
    assert long["roomConfig"]["emptyTimeout"] == 360


@pytest.mark.usefixtures("worker")
async def test_requested_agents_are_dispatched_once_and_are_not_in_the_token(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(OTHER_AGENT)
    agents = [{"agent_name": AGENT}, {"agentName": OTHER_AGENT}, {}]
    for _ in range(3):
        answer = await app.call(
            "POST", TOKEN, json_body={"room_name": "room", "room_config": {"agents": agents}}
        )
        assert "agents" not in claims(answer)["roomConfig"]
        await app.advance(1)

    assert sorted(agent.agent_name for agent in world.agents("room")) == [AGENT, OTHER_AGENT]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"deviceId": "x"}, "body"),
        ({"room_config": {"agents": [{"agent_name": AGENT}], "new_option": {"a": 1}}}, "room_config"),
        ({"room_config": {"agents": [{"agent_name": AGENT, "newOption": 1}]}}, "room_config"),
    ],
)
async def test_a_field_of_a_newer_sdk_is_ignored_and_counted(
    app: App, fields: dict[str, Any], place: str
) -> None:
    claims(await app.call("POST", TOKEN, json_body={"room_name": "room", **fields}))

    _, _, text = await app.scrape()
    for one in ("body", "room_config"):
        line = f'agent_lifecycle_token_ignored_fields_total{{place="{one}"}} {1.0 if one == place else 0.0}'
        assert line in text
    assert (await app.state() != "none") is (place == "room_config")


async def test_browsers_get_the_address_that_they_reach(start_app: StartApp) -> None:
    app = await start_app(livekit_public_url="wss://livekit.example.com")
    answer = await app.call("POST", TOKEN)
    assert answer.body["server_url"] == "wss://livekit.example.com"


async def test_without_livekit_there_is_no_token_for_an_agents_room(app: App, livekit: FakeLiveKit) -> None:
    livekit.faults.everywhere(FailBefore(UNREACHABLE))
    wanted = {"room_config": {"agents": [{"agent_name": AGENT}]}}

    assert (await app.call("POST", TOKEN, json_body=wanted)).status == 503
    assert (await app.call("POST", TOKEN, json_body={})).status == 201


async def test_in_dev_the_endpoint_is_open(start_app: StartApp) -> None:
    app = await start_app(environment=Environment.DEV)

    assert (await app.call("POST", TOKEN, auth=None)).status == 201


# Whom it is for


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_nobody_gets_the_identity_of_an_agent(app: App, world: World, server: FakeServer) -> None:
    server.fixed_identity = "support"
    server.join("room")
    await app.dispatch()
    await app.advance(6)
    wanted = {"room_name": "room", "participant_identity": "support"}

    refused = await app.call("POST", TOKEN, json_body=wanted)
    elsewhere = await app.call("POST", TOKEN, json_body={**wanted, "room_name": "another"})
    other = await app.call("POST", TOKEN, json_body={**wanted, "participant_identity": "support-2"})

    assert (refused.status, refused.code) == (422, "invalid")
    assert refused.body["message"].endswith(" - at `$.participant_identity`")
    assert (elsewhere.status, other.status) == (201, 201)
    [agent] = world.agents("room")
    assert agent.identity == "support"
    await app.end()
    await app.advance(10)
    assert (await app.call("POST", TOKEN, json_body=wanted)).status == 201


@pytest.mark.usefixtures("worker")
async def test_with_a_cookies_room_nobody_gets_its_agents_identity(
    start_app: StartApp, server: FakeServer
) -> None:
    app = await start_app(session_rooms=SessionRoomsBy.COOKIE)
    server.fixed_identity = "support"
    first = await app.call("POST", TOKEN, json_body={"room_config": {"agents": [{}]}})
    cookie = {"Cookie": first.headers["Set-Cookie"].partition(";")[0]}
    server.join(claims(first)["video"]["room"])
    await app.advance(6)

    answer = await app.call("POST", TOKEN, json_body={"participant_identity": "support"}, headers=cookie)

    assert answer.status == 422


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("participant_identity", "agent-AJ_x7Yb", "begins with agent-AJ_"),
        ("participant_identity", "agent-AJ_", "begins with agent-AJ_"),
        ("participant_identity", "ali\x00ce", "control character"),
        ("participant_identity", "alice\n", "control character"),
        ("participant_identity", "\u202eecila", "invisible"),
        ("participant_identity", "alice\u200b", "invisible"),
        ("participant_identity", "\u00e4" * 129, "256 bytes"),
        ("participant_name", "Al\x1bice", "control character"),
        ("participant_name", "Alice\u2028", "invisible"),
        ("participant_name", "\u2066Alice", "invisible"),
        ("participant_name", "\u00e4" * 129, "256 bytes"),
    ],
)
async def test_who_cannot_be_shown_or_told_apart_is_422(app: App, field: str, text: str, told: str) -> None:
    answer = await app.call("POST", TOKEN, json_body={"room_name": "room", field: text})

    assert (answer.status, answer.code) == (422, "invalid")
    assert told in answer.body["message"]
    assert answer.body["message"].endswith(f" - at `$.{field}`")


@pytest.mark.parametrize(
    "text",
    [
        "agent-smith",
        "agent-aj_1",
        "an agent-AJ_1",
        "J\u00fcrgen M\u00fcller",
        "\u5c71\u7530\u3000\u592a\u90ce",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "\U0001f468\u200d\U0001f469",
        "\U0001fae8",
        "\u00e4" * 128,
        "",
    ],
)
async def test_people_have_any_identity_and_name_that_can_be_shown(app: App, text: str) -> None:
    wanted = {"room_name": "room", "participant_identity": text, "participant_name": text}
    token = claims(await app.call("POST", TOKEN, json_body=wanted))

    assert token["sub"] == text or not text


async def test_without_the_database_nobody_is_said_to_be_no_agent(app: App, world: World) -> None:
    wanted = {"room_name": "room", "participant_identity": "alice"}
    world.database_faults.down = True
    named = await app.call("POST", TOKEN, json_body=wanted)
    unnamed = await app.call("POST", TOKEN, json_body={"room_name": "room"})
    world.database_faults.down = False

    assert (named.status, named.code) == (503, "database_unavailable")
    assert unnamed.status == 201


async def test_a_lone_surrogate_is_400(app: App) -> None:
    answer = await app.call("POST", TOKEN, data=b'{"participant_identity": "\\ud800"}')

    assert (answer.status, answer.code) == (400, "malformed")


async def test_an_issued_token_is_accepted_for_its_room(app: App) -> None:
    answer = await app.call("POST", TOKEN, json_body={"room_name": "room"})
    token = answer.body["participant_token"]

    assert (await app.call("GET", STATUS, params={"roomName": "room"}, auth=token)).status == 200
    assert (await app.call("GET", STATUS, params={"roomName": "other"}, auth=token)).status == 403
