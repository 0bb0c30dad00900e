"""The client with answers that a real server gives only in a race; tests/contract has the rest."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import ListParticipantsResponse, PerformRpcResponse

from app.errors import LiveKitTimeout
from app.livekit.client import LiveKitClient
from app.livekit.interface import ClaimAnswer, Hearing, Probe
from fakes.clock import SECOND_US, START_US, FakeClock
from integration.harness import KEYPAIR


@dataclass
class MuteRoom:
    """A room service that never answers a removal, like LiveKit for a leaving participant."""

    #: The identities of the agents and the people in the room.
    agents: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    #: What its agent answers to a probe; None: it leaves during the call.
    health: str | None = None
    #: With which error its agent answers.
    refusal: str | None = None
    #: The Date header of its answers.
    date: str = ""

    async def remove(self, _request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("this event is never set")

    async def ask(self, _request: web.Request) -> web.Response:
        """A participant may leave during the call (livekit-server 1.13.5, seen in the chaos run)."""
        if self.refusal is not None:
            return web.json_response({"code": "invalid_argument", "msg": self.refusal}, status=400)
        if self.health is not None:
            body = PerformRpcResponse(payload=self.health).SerializeToString()
            return web.Response(body=body, content_type="application/protobuf")
        return web.json_response({"code": "not_found", "msg": "participant does not exist"}, status=404)

    async def list_participants(self, _request: web.Request) -> web.Response:
        agent, person = ParticipantInfo.Kind.AGENT, ParticipantInfo.Kind.STANDARD
        participants = [ParticipantInfo(sid="PA_1", identity=one, kind=agent) for one in self.agents]
        participants += [ParticipantInfo(sid="PA_2", identity=one, kind=person) for one in self.people]
        body = ListParticipantsResponse(participants=participants).SerializeToString()
        headers = {"Date": self.date} if self.date else {}
        return web.Response(body=body, content_type="application/protobuf", headers=headers)


@pytest.fixture
def room() -> MuteRoom:
    return MuteRoom()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def client(room: MuteRoom, clock: FakeClock) -> AsyncIterator[LiveKitClient]:
    stub = web.Application()
    stub.router.add_post("/twirp/livekit.RoomService/RemoveParticipant", room.remove)
    stub.router.add_post("/twirp/livekit.RoomService/PerformRpc", room.ask)
    stub.router.add_post("/twirp/livekit.RoomService/ListParticipants", room.list_participants)
    runner = web.AppRunner(stub, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield LiveKitClient(session, f"http://{host}:{port}", KEYPAIR, clock)
    await runner.cleanup()


async def test_an_agent_that_leaves_during_its_removal_counts_as_removed(client: LiveKitClient) -> None:
    assert await client.remove_participant("room", "agent-AJ_1")


async def test_an_agent_that_stays_after_a_timeout_does_not_count_as_removed(
    client: LiveKitClient, room: MuteRoom
) -> None:
    room.agents.append("agent-AJ_1")
    with pytest.raises(LiveKitTimeout):
        await client.remove_participant("room", "agent-AJ_1")


async def test_an_agent_counts_as_removed_if_a_person_has_its_identity(
    client: LiveKitClient, room: MuteRoom
) -> None:
    room.people.append("agent-AJ_1")
    assert await client.remove_participant("room", "agent-AJ_1")


async def test_an_agent_that_leaves_during_its_probe_is_silent(client: LiveKitClient) -> None:
    assert await client.probe("room", "agent-AJ_1") is Probe.SILENT


@pytest.mark.parametrize(
    ("health", "probe"),
    [
        ('{"session": "open", "ready": true}', Probe.OPEN),
        ('{"session": "open", "ready": false}', Probe.STARTING),
        ('{"session": "open"}', Probe.OPEN),  # an older helper
        ('{"session": "closed", "ready": false}', Probe.CLOSED),
        ('{"session": "closed"}', Probe.CLOSED),
        ('{"session": "waiting", "ready": true}', Probe.WAITING),
        ('{"session": "open", "ready": "soon"}', Probe.ALIVE),
        ("well", Probe.ALIVE),
    ],
)
async def test_an_agents_answer_to_a_probe_is_read(
    client: LiveKitClient, room: MuteRoom, health: str, probe: Probe
) -> None:
    room.health = health
    assert await client.probe("room", "agent-AJ_1") is probe


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('{"claimed": true}', ClaimAnswer.CLAIMED),
        ('{"claimed": false}', ClaimAnswer.REFUSED),
        ("{}", ClaimAnswer.REFUSED),
        ("well", ClaimAnswer.REFUSED),
        (None, ClaimAnswer.SILENT),
    ],
)
async def test_an_agents_answer_to_its_claim_is_read(
    client: LiveKitClient, room: MuteRoom, said: str | None, answer: ClaimAnswer
) -> None:
    room.health = said
    assert await client.claim("room", "agent-AJ_1", "{}") is answer


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (409, ClaimAnswer.REFUSED),
        (500, ClaimAnswer.REFUSED),
        (1400, ClaimAnswer.UNKNOWN),
        (1500, ClaimAnswer.REFUSED),
        (1502, ClaimAnswer.SILENT),
        (1503, ClaimAnswer.SILENT),
    ],
)
async def test_an_agents_refusal_of_its_claim_is_told_from_its_silence(
    client: LiveKitClient, room: MuteRoom, code: int, answer: ClaimAnswer
) -> None:
    room.refusal = f"RpcError {code}: it cannot"
    assert await client.claim("room", "agent-AJ_1", "{}") is answer


async def test_an_agent_that_leaves_during_its_warning_is_silent(client: LiveKitClient) -> None:
    assert await client.warn("room", "agent-AJ_1", "{}") is Hearing.SILENT


@pytest.mark.parametrize("ahead_s", [-3_600, 0, 3_600])
async def test_livekits_time_is_read_from_its_answers(
    client: LiveKitClient, room: MuteRoom, clock: FakeClock, ahead_s: int
) -> None:
    date = dt.datetime.fromtimestamp(START_US // SECOND_US + ahead_s, dt.UTC)
    room.date = format_datetime(date, usegmt=True)
    await client.list_participants("room")
    clock.advance(7)

    assert client.now() == START_US + (ahead_s + 7) * SECOND_US


async def test_an_invalid_date_is_ignored(client: LiveKitClient, room: MuteRoom, clock: FakeClock) -> None:
    room.date = "yesterday"
    await client.list_participants("room")

    assert client.now() == clock.now()
