"""A LiveKit, or a proxy before it, whose answers are none: whoever asks learns that it is not available."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from livekit.protocol.agent_dispatch import AgentDispatch, AgentDispatchState, ListAgentDispatchResponse
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.room import ListParticipantsResponse, ListRoomsResponse, PerformRpcResponse

from app.errors import LiveKitRefused, LiveKitUnavailable
from app.lifecycle import UNTOLD
from app.livekit.client import LiveKitClient
from app.livekit.interface import Probe
from app.web.app import create_app
from app.web.listener import listen
from devstack.truth import eventually
from fakes.clock import FakeClock
from fakes.sick_livekit import LIMIT, PROTOBUF, SICK, SickLiveKit, answer, failed, sick_livekit
from integration.harness import API_KEY, BOUND_S, DISPATCH, KEYPAIR, World

Call = Callable[[LiveKitClient], Awaitable[object]]

CALLS: dict[str, Call] = {
    "find_room": lambda client: client.find_room("room"),
    "list_rooms": lambda client: client.list_rooms(),
    "ensure_room": lambda client: client.ensure_room("room", 60),
    "list_dispatches": lambda client: client.list_dispatches("room"),
    "list_participants": lambda client: client.list_participants("room"),
    "list_people": lambda client: client.list_people("room"),
    "create_dispatch": lambda client: client.create_dispatch("room", "agent", "row", UNTOLD),
    "delete_dispatch": lambda client: client.delete_dispatch("room", "AD_1"),
    "remove_participant": lambda client: client.remove_participant("room", "agent-AJ_1"),
    "delete_room": lambda client: client.delete_room("room"),
    "can_probe": lambda client: client.can_probe(),
    "probe": lambda client: client.probe("room", "agent-AJ_1"),
    "warn": lambda client: client.warn("room", "agent-AJ_1", "{}"),
    "announce": lambda client: client.announce("room", "agent-AJ_1"),
    "claim": lambda client: client.claim("agent-warm.row", "agent-AJ_1", "{}"),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
async def sick() -> AsyncIterator[SickLiveKit]:
    async with sick_livekit() as one:
        yield one


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def client(sick: SickLiveKit, clock: FakeClock) -> AsyncIterator[LiveKitClient]:
    async with aiohttp.ClientSession() as session:
        yield LiveKitClient(session, sick.url, KEYPAIR, clock, answer_limit=LIMIT)


@pytest.fixture(autouse=True)
def _calls_that_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_ANNOUNCE_TIMEOUT_S", "_REMOVE_TIMEOUT_S"):
        monkeypatch.setattr(f"app.livekit.client.{limit}", BOUND_S)


def test_every_call_to_livekit_is_in_the_table() -> None:
    public = {name for name in vars(LiveKitClient) if not name.startswith("_")}
    assert public == CALLS.keys() | {"now"}


@pytest.mark.every_case
@EVERY_CALL
@pytest.mark.parametrize("says", SICK.values(), ids=SICK)
async def test_what_livekit_does_not_send_is_no_answer(
    client: LiveKitClient, sick: SickLiveKit, call: Call, says: bytes
) -> None:
    sick.says = says
    with pytest.raises(LiveKitUnavailable):
        await call(client)
    assert sick.asked == 1


@pytest.mark.every_case
@EVERY_CALL
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412])
async def test_only_an_error_in_livekits_own_format_is_a_refusal(
    client: LiveKitClient, sick: SickLiveKit, call: Call, status: int
) -> None:
    sick.says = failed(status, b'{"code":"failed_precondition","msg":"no"}')
    if call is CALLS["can_probe"]:
        assert await call(client) is True
        return
    with pytest.raises(LiveKitRefused):
        await call(client)


@pytest.mark.parametrize(
    "text", [b"invalid API key: devkey", b"invalid token: x, error: y", b"invalid authorization token"]
)
async def test_livekits_rejection_of_a_key_is_a_refusal_though_it_is_plain_text(
    client: LiveKitClient, sick: SickLiveKit, text: bytes
) -> None:
    sick.says = answer(401, text, "text/plain; charset=utf-8")
    with pytest.raises(LiveKitRefused, match="API key and secret"):
        await client.list_rooms()


@pytest.mark.parametrize("code", ["canceled", "deadline_exceeded"])
async def test_a_call_that_livekit_gave_up_is_not_refused(
    client: LiveKitClient, sick: SickLiveKit, code: str
) -> None:
    """Whether it had an effect is not known."""
    sick.says = failed(408, b'{"code":"%s","msg":""}' % code.encode())
    with pytest.raises(LiveKitUnavailable):
        await client.create_dispatch("room", "agent", "row", UNTOLD)


async def test_a_livekit_without_rooms_sends_nothing_as_protobuf(
    client: LiveKitClient, sick: SickLiveKit
) -> None:
    sick.says = answer(200, b"", "Application/Protobuf; charset=binary")
    assert await client.list_rooms() == ()
    assert await client.find_room("room") is None


async def test_an_answer_up_to_the_limit_is_read(client: LiveKitClient, sick: SickLiveKit) -> None:
    rooms = [Room(name=f"{number:0900}", sid=f"RM_{number}") for number in range(1_000)]
    body = ListRoomsResponse(rooms=rooms).SerializeToString()
    assert LIMIT * 0.8 < len(body) < LIMIT
    sick.says = answer(200, body, PROTOBUF)
    assert len(await client.list_rooms()) == 1_000


# The service


@dataclass
class Caller:
    session: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.session.get(path) as got:
            return got.status, await got.json()

    async def dispatch(self) -> tuple[int, dict[str, Any]]:
        async with self.session.post(DISPATCH, json={"roomName": "room"}) as got:
            return got.status, await got.json()


@pytest.fixture
async def caller(world: World, sick: SickLiveKit) -> AsyncIterator[Caller]:
    """Of a service that has this LiveKit."""
    config = replace(world.config, livekit_url=sick.url)
    runner = web.AppRunner(create_app(config, clock=world.clock), access_log=None)
    await runner.setup()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with closing(await listen(runner, "127.0.0.1", 0)) as listener:
        port = listener.port
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
            yield Caller(session)
    await runner.cleanup()


@pytest.mark.parametrize("kind", ["a page", "nothing, of no type", "400 with a list", "broken chunks"])
async def test_a_livekit_that_is_sick_at_first_is_told_and_makes_it_ready_later(
    caller: Caller, sick: SickLiveKit, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sick.says = SICK[kind]

    def logged() -> set[tuple[object, object]]:
        return {(vars(record).get("action"), vars(record).get("code")) for record in caplog.records}

    async def says_why() -> bool:
        status, report = await caller.get("/readyz")
        return status == 503 and report["livekit"] != "not contacted yet"

    await eventually(says_why, "the reason is told")
    assert ("livekit", "livekit_unavailable") in logged()
    sick.says = answer(200, b"", PROTOBUF)

    async def is_ready() -> bool:
        return (await caller.get("/readyz"))[0] == 200

    await eventually(is_ready, "it is ready once LiveKit answers")
    assert ("ready", None) in logged()
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("kind", ["a page", "nothing, of no type", "400 with a list", "404 with a page"])
async def test_a_livekit_that_falls_sick_is_503_for_callers(
    caller: Caller, sick: SickLiveKit, kind: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    sick.says = answer(200, b"", PROTOBUF)

    async def is_ready() -> bool:
        return (await caller.get("/readyz"))[0] == 200

    await eventually(is_ready, "it is ready")
    sick.says = SICK[kind]

    status, body = await caller.dispatch()

    assert (status, body["code"], body["retryable"]) == (503, "livekit_unavailable", True)
    assert (await caller.get("/readyz"))[0] == 200
    assert not any(world.tables().values())
    assert not [record for record in caplog.records if record.exc_info]


# What a well-formed message says

_NO_TIME = [-1, -(2**62), 2**53, 2**62]


@pytest.mark.parametrize("at", _NO_TIME)
@pytest.mark.parametrize("field", ["creation_time", "creation_time_ms"])
async def test_a_room_from_an_impossible_time_is_no_answer(
    client: LiveKitClient, sick: SickLiveKit, field: str, at: int
) -> None:
    room = Room(name="room", sid="RM_1")
    setattr(room, field, at)
    sick.says = answer(200, ListRoomsResponse(rooms=[room]).SerializeToString(), PROTOBUF)
    for name in ("find_room", "list_rooms"):
        with pytest.raises(LiveKitUnavailable):
            await CALLS[name](client)
    sick.says = answer(200, room.SerializeToString(), PROTOBUF)
    with pytest.raises(LiveKitUnavailable):
        await client.ensure_room("room", 60)


@pytest.mark.parametrize("at", _NO_TIME)
async def test_a_participant_from_an_impossible_time_is_no_answer(
    client: LiveKitClient, sick: SickLiveKit, at: int
) -> None:
    person = ParticipantInfo(sid="PA_1", identity="alice", state="ACTIVE", joined_at_ms=at)
    sick.says = answer(200, ListParticipantsResponse(participants=[person]).SerializeToString(), PROTOBUF)
    for name in ("list_participants", "list_people"):
        with pytest.raises(LiveKitUnavailable):
            await CALLS[name](client)


async def test_a_dispatch_from_an_impossible_time_is_no_answer(
    client: LiveKitClient, sick: SickLiveKit
) -> None:
    dispatch = AgentDispatch(id="AD_1", agent_name="agent", state=AgentDispatchState(created_at=-(2**62)))
    sick.says = answer(200, dispatch.SerializeToString(), PROTOBUF)
    with pytest.raises(LiveKitUnavailable):
        await client.create_dispatch("room", "agent", "row", UNTOLD)
    listed = ListAgentDispatchResponse(agent_dispatches=[dispatch])
    sick.says = answer(200, listed.SerializeToString(), PROTOBUF)
    with pytest.raises(LiveKitUnavailable):
        await client.list_dispatches("room")


async def test_what_was_made_has_a_name(client: LiveKitClient, sick: SickLiveKit) -> None:
    sick.says = answer(200, b"", PROTOBUF)
    for name in ("ensure_room", "create_dispatch"):
        with pytest.raises(LiveKitUnavailable):
            await CALLS[name](client)


async def test_an_agent_that_answers_in_great_depth_is_alive(
    client: LiveKitClient, sick: SickLiveKit
) -> None:
    payload = '{"x":' + "[" * 7_000 + "]" * 7_000 + "}"
    sick.says = answer(200, PerformRpcResponse(payload=payload).SerializeToString(), PROTOBUF)
    assert await client.probe("room", "agent-AJ_1") is Probe.ALIVE


# What the header says


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2001 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 2001 99:99:99 GMT",
        "\xff",
        ",",
    ],
)
async def test_an_impossible_date_is_ignored(
    client: LiveKitClient, sick: SickLiveKit, clock: FakeClock, date: str
) -> None:
    sick.says = answer(200, b"", PROTOBUF, f"Date: {date}")
    assert await client.list_rooms() == ()
    assert client.now() == clock.now()


async def test_the_time_of_whoever_is_not_livekit_is_ignored(
    client: LiveKitClient, sick: SickLiveKit, clock: FakeClock
) -> None:
    sick.says = answer(503, b"", "text/html", "Date: Tue, 15 Nov 2022 08:12:31 GMT")
    with pytest.raises(LiveKitUnavailable):
        await client.list_rooms()
    assert client.now() == clock.now()
