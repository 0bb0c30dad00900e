"""Tokens for LiveKit's API: the same rights get the same one for five minutes."""

import aiohttp
import jwt
import pytest
from livekit import api

from app.config.settings import Keypair
from app.livekit import token_reuse
from app.livekit.answers import ANSWER_LIMIT
from app.livekit.twirp import RpcRoomService, StrictClient
from fakes.clock import FakeClock

KEYPAIR = Keypair(key="key", secret="a-secret-of-at-least-32-characters")


class WallClock:
    """The machine's clock, which may be set forward and back."""

    def __init__(self) -> None:
        self._time_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self._time_s

    def advance(self, seconds: float) -> None:
        self._time_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(token_reuse, "wall_time_s", clock)
    return clock


@pytest.fixture
async def service() -> RpcRoomService:
    session = aiohttp.ClientSession()
    await session.close()
    client = StrictClient(session, "http://livekit", FakeClock(), ANSWER_LIMIT)
    return RpcRoomService(client, session, KEYPAIR)


def token_for(service: RpcRoomService, room: str = "room", right: str = "room_admin") -> str:
    rights = api.VideoGrants(room=room, room_admin=right == "room_admin", room_list=right == "room_list")
    header = service._auth_header(rights)
    return header["authorization"].removeprefix("Bearer ")


def video_rights(token: str) -> api.VideoGrants:
    video = api.TokenVerifier(KEYPAIR.key, KEYPAIR.secret).verify(token).video
    assert video is not None
    return video


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that is signed."""
    signed: list[str] = []
    sign = api.AccessToken.to_jwt

    def note(token: api.AccessToken) -> str:
        signed.append(sign(token))
        return signed[-1]

    monkeypatch.setattr(api.AccessToken, "to_jwt", note)
    return signed


async def test_the_same_rights_are_signed_once_in_five_minutes(
    service: RpcRoomService, clock: WallClock, signed: list[str]
) -> None:
    for _ in range(3):
        token_for(service)
    clock.advance(300)
    token_for(service)
    assert len(signed) == 1
    clock.advance(1)
    token_for(service)
    assert len(signed) == 2


async def test_other_rights_and_rooms_have_other_tokens(service: RpcRoomService) -> None:
    for room, right in (("a", "room_admin"), ("b", "room_admin"), ("a", "room_list")):
        for _ in range(2):
            video = video_rights(token_for(service, room, right))
            assert (video.room, bool(video.room_admin), bool(video.room_list)) == (
                room,
                right == "room_admin",
                right == "room_list",
            )


async def test_the_oldest_token_is_forgotten_first(
    service: RpcRoomService, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_reuse, "_MOST_TOKENS", 2)
    for room in ("a", "b", "c", "b", "c"):
        token_for(service, room)
    assert len(signed) == 3
    token_for(service, "a")
    assert len(signed) == 4


async def test_a_token_that_is_not_used_again_is_not_kept(service: RpcRoomService, clock: WallClock) -> None:
    for room in ("a", "b"):
        token_for(service, room)
    clock.advance(200)
    token_for(service, "c")
    clock.advance(200)
    token_for(service, "c")
    assert len(service._signed) == 1


async def test_a_token_is_signed_anew_if_the_clock_is_set_back(
    service: RpcRoomService, clock: WallClock, signed: list[str]
) -> None:
    token_for(service)
    clock.advance(-60)
    token_for(service)
    token_for(service)
    assert len(signed) == 2


async def test_a_token_is_signed_anew_after_a_suspension(
    service: RpcRoomService, clock: WallClock, signed: list[str]
) -> None:
    """The wall clock goes on meanwhile, unlike the one by which deadlines are."""
    token_for(service)
    clock.advance(7 * 3_600)
    token_for(service)
    assert len(signed) == 2


async def test_a_token_is_valid_for_much_longer_than_it_is_reused(service: RpcRoomService) -> None:
    claims = jwt.decode(token_for(service), options={"verify_signature": False})
    assert claims["exp"] - claims["nbf"] > 2 * token_reuse._REUSED_FOR_S
