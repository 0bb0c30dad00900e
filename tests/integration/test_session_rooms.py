"""Rooms by cookie: a frontend that names neither room nor identity finds both again after a refresh."""

import base64
import json
from collections.abc import Mapping
from http.cookies import Morsel, SimpleCookie
from ipaddress import ip_network
from typing import Any

import jwt
import pytest

from app.config.settings import SessionRoomsBy
from app.lifecycle import SECOND_US
from app.web.browser_sessions import MAX_AGE_S, SessionRooms
from fakes.clock import FakeClock
from fakes.faults import UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, KEYPAIR, SECOND_KEYPAIR, TOKEN, Answer, App, World, signing_with

NAME = "agent_lifecycle_room"
SECURE_NAME = f"__Host-{NAME}"
PAGE = "https://app.example.com"
FROM_PAGE = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}


@pytest.fixture
async def app(start_app: StartApp) -> App:
    return await start_app(session_rooms=SessionRoomsBy.COOKIE, cors_origins=(PAGE,))


def set_cookie(answer: Answer, name: str = NAME) -> "Morsel[str]":
    # Python reads `Partitioned` from 3.14 on.
    return SimpleCookie(answer.headers["Set-Cookie"].removesuffix("; Partitioned"))[name]


def cookie_of(answer: Answer) -> str:
    return set_cookie(answer).value


async def come(
    app: App,
    cookie: str | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    name: str = NAME,
    **fields: Any,
) -> Answer:
    """One token request; `cookie` as the browser has it."""
    sent = dict(headers or {}) | ({"Cookie": f"other=1; {name}={cookie}"} if cookie is not None else {})
    answer = await app.call("POST", TOKEN, json_body=fields, headers=sent)
    assert answer.status == 201, answer
    return answer


def who_where(answer: Answer) -> tuple[str, str]:
    claims = jwt.decode(answer.body["participant_token"], KEYPAIR.secret, algorithms=["HS256"])
    return claims["sub"], claims["video"]["room"]


@pytest.mark.usefixtures("worker")
async def test_a_refresh_is_the_same_person_with_the_same_agent(app: App, world: World) -> None:
    wants_agent: dict[str, Any] = {"room_config": {"agents": [{"agent_name": AGENT}]}}
    first = await come(app, **wants_agent)
    again = [await come(app, cookie_of(first), **wants_agent) for _ in range(3)]

    assert {who_where(answer) for answer in again} == {who_where(first)}
    assert [answer.headers.get("Set-Cookie") for answer in again] == [None] * 3
    await app.advance(1)
    assert len(world.agents(who_where(first)[1])) == 1
    assert len(world.livekit.server.rooms) == 1


async def test_the_cookie_is_out_of_the_pages_reach_and_ends(app: App) -> None:
    cookie = set_cookie(await come(app))

    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", TOKEN)
    assert cookie["max-age"] == str(MAX_AGE_S)
    assert not cookie["secure"]
    assert not cookie["domain"]


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {"Origin": "https://agents.example.com", "Sec-Fetch-Site": "same-origin"}),
        ({"public_url": "https://agents.example.com"}, {}),
        ({"trusted_proxies": (ip_network("127.0.0.0/8"),)}, {"X-Forwarded-Proto": "https"}),
    ],
)
async def test_over_https_it_travels_over_https_only(
    start_app: StartApp, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    app = await start_app(session_rooms=SessionRoomsBy.COOKIE, cors_origins=(PAGE,), **settings)
    first = await come(app, headers=headers)
    cookie = set_cookie(first, SECURE_NAME)

    assert (cookie["secure"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert who_where(await come(app, cookie.value, headers, name=SECURE_NAME)) == who_where(first)


async def test_over_https_a_cookie_that_a_neighbour_could_set_is_none(start_app: StartApp) -> None:
    app = await start_app(session_rooms=SessionRoomsBy.COOKIE, public_url="https://agents.example.com")
    first = await come(app)
    answer = await come(app, set_cookie(first, SECURE_NAME).value, name=NAME)

    assert who_where(answer)[1] != who_where(first)[1]


async def test_without_the_setting_there_is_no_cookie(start_app: StartApp, app: App) -> None:
    cookie = cookie_of(await come(app))
    await app.stop()
    plain = await start_app(cors_origins=(PAGE,))
    answers = [await come(plain, cookie, FROM_PAGE) for _ in range(2)]

    assert who_where(answers[0]) != who_where(answers[1])
    assert not [answer for answer in answers if "Set-Cookie" in answer.headers]
    assert "Access-Control-Allow-Credentials" not in answers[0].headers


# What the request names


async def test_what_is_named_wins(app: App) -> None:
    first = await come(app)
    identity, room = who_where(first)
    cookie = cookie_of(first)

    assert who_where(await come(app, cookie, room_name="lobby")) == (identity, "lobby")
    assert who_where(await come(app, cookie, participant_identity="alice")) == ("alice", room)
    both = await come(app, cookie, room_name="lobby", participant_identity="alice")
    assert who_where(both) == ("alice", "lobby")


async def test_a_room_that_is_named_is_never_the_cookies(app: App) -> None:
    """Else naming it once would open it for a day."""
    named = await come(app, room_name="lobby", participant_identity="alice")
    assert "Set-Cookie" not in named.headers
    half_named = await come(app, room_name="lobby")

    identity, room = who_where(await come(app, cookie_of(half_named)))
    assert room.startswith("room-")
    assert identity == who_where(half_named)[0]


# What is no cookie of ours


def changed(cookie: str) -> list[str]:
    payload, signature = cookie.split(".")
    made_at_s, room, identity = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = "0" * 16

    def encoded(*values: object) -> str:
        return (
            base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")
        )

    assert encoded(made_at_s, room, identity) == payload
    return [
        "",
        "nonsense",
        "ü" * 4,
        cookie[:-1],
        f"{cookie}A",
        payload,
        f"{encoded(made_at_s, other, identity)}.{signature}",
        f"{encoded(made_at_s, room, other)}.{signature}",
        f"{encoded(made_at_s + 1, room, identity)}.{signature}",
        ".".join((payload, "A" * 43)),
    ]


async def test_a_forged_cookie_is_none(app: App) -> None:
    first = await come(app)
    for forged in changed(cookie_of(first)):
        answer = await come(app, forged)
        assert who_where(answer)[1] != who_where(first)[1], forged
        assert cookie_of(answer) != cookie_of(first)


async def test_two_cookies_are_none(app: App) -> None:
    """A neighbouring host has set one of them, and with it would choose the room."""
    mine, theirs = [await come(app) for _ in range(2)]
    answer = await come(app, f"{cookie_of(mine)}; {NAME}={cookie_of(theirs)}")

    assert who_where(answer)[1] not in {who_where(mine)[1], who_where(theirs)[1]}


async def test_it_ends_a_day_after_it_was_made_however_often_it_was_used(app: App, world: World) -> None:
    first = await come(app)
    world.clock.advance(MAX_AGE_S - 1)
    assert who_where(await come(app, cookie_of(first))) == who_where(first)
    world.clock.advance(1)
    late = await come(app, cookie_of(first))

    assert who_where(late)[1] != who_where(first)[1]
    assert cookie_of(late) != cookie_of(first)


@pytest.mark.parametrize(("ahead_s", "taken"), [(60, True), (61, False)])
async def test_a_cookie_of_a_replica_whose_clock_is_a_minute_ahead_is_taken(
    app: App, world: World, livekit: FakeLiveKit, *, ahead_s: int, taken: bool
) -> None:
    clock = FakeClock(world.clock.now() + ahead_s * SECOND_US)
    made = await SessionRooms(livekit, clock, [KEYPAIR.secret]).visit(None, None, None)
    assert (who_where(await come(app, made.cookie))[1] == made.room_name) == taken


async def test_it_outlives_a_change_of_keys_and_not_the_old_keys_end(start_app: StartApp, app: App) -> None:
    first = await come(app)
    await app.stop()
    settings: dict[str, Any] = {"session_rooms": SessionRoomsBy.COOKIE, **signing_with(SECOND_KEYPAIR)}
    rotated = await start_app(**settings, webhook_keys=(KEYPAIR,))
    answer = await rotated.call("POST", TOKEN, json_body={}, headers={"Cookie": f"{NAME}={cookie_of(first)}"})
    assert "Set-Cookie" not in answer.headers
    await rotated.stop()
    ended = await start_app(
        session_rooms=SessionRoomsBy.COOKIE, **signing_with(SECOND_KEYPAIR), webhook_keys=()
    )
    answer = await ended.call("POST", TOKEN, json_body={}, headers={"Cookie": f"{NAME}={cookie_of(first)}"})
    assert "Set-Cookie" in answer.headers


# Several tabs


async def test_a_second_tab_does_not_put_the_first_one_out(app: App, server: FakeServer) -> None:
    first = await come(app)
    cookie = cookie_of(first)
    identity, room = who_where(first)
    server.open_room(room, 360, 360)
    server.join(room, identity)

    second = who_where(await come(app, cookie))
    assert second == (f"{identity}-2", room)
    server.join(room, second[0])
    assert who_where(await come(app, cookie)) == (f"{identity}-3", room)
    server.leave(room, identity)
    assert who_where(await come(app, cookie)) == (identity, room)


async def test_nobody_is_put_out_on_a_guess(app: App, livekit: FakeLiveKit) -> None:
    first = await come(app)
    livekit.faults.everywhere(FailBefore(UNREACHABLE))
    identity, room = who_where(await come(app, cookie_of(first)))

    assert room == who_where(first)[1]
    assert not identity.startswith(who_where(first)[0])


# Pages of other origins


async def test_a_configured_page_of_another_site_keeps_its_room(app: App) -> None:
    first = await come(app, headers=FROM_PAGE)
    cookie = set_cookie(first, SECURE_NAME)

    assert (cookie["samesite"], cookie["secure"], cookie["httponly"]) == ("None", True, True)
    assert first.headers["Set-Cookie"].endswith("; Partitioned")
    assert first.headers["Access-Control-Allow-Credentials"] == "true"
    assert first.headers["Access-Control-Allow-Origin"] == PAGE
    assert who_where(await come(app, cookie.value, FROM_PAGE, name=SECURE_NAME)) == who_where(first)


async def test_its_preflight_allows_cookies(app: App) -> None:
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = await app.call("OPTIONS", TOKEN, auth=None, headers=headers)

    assert (answer.status, answer.headers["Access-Control-Allow-Credentials"]) == (204, "true")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("origins", [(), ("*",), (PAGE,)])
async def test_a_page_that_is_not_named_has_no_cookie(
    start_app: StartApp, site: str, origins: tuple[str, ...]
) -> None:
    app = await start_app(session_rooms=SessionRoomsBy.COOKIE, cors_origins=origins)
    headers = {"Origin": "https://evil.example.net", "Sec-Fetch-Site": site}
    own = await come(app)
    answer = await come(app, cookie_of(own), headers)

    assert who_where(answer)[1] != who_where(own)[1]
    assert "Set-Cookie" not in answer.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers
