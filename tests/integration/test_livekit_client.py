"""What the client makes of answers that a real server gives only in a race; tests/contract has the rest."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import ListParticipantsResponse

from app.errors import LiveKitTimeout
from app.livekit_client import LiveKitClient
from integration.harness import KEYPAIR


@dataclass
class MuteRoom:
    """A room service that never answers a removal, as LiveKit does not when its participant is leaving."""

    #: Identities that are in the room.
    present: list[str] = field(default_factory=list)

    async def remove(self, _request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")

    async def list_participants(self, _request: web.Request) -> web.Response:
        participants = [ParticipantInfo(sid="PA_1", identity=identity) for identity in self.present]
        body = ListParticipantsResponse(participants=participants).SerializeToString()
        return web.Response(body=body, content_type="application/protobuf")


@pytest.fixture
def room() -> MuteRoom:
    return MuteRoom()


@pytest.fixture
async def client(room: MuteRoom) -> AsyncIterator[LiveKitClient]:
    stub = web.Application()
    stub.router.add_post("/twirp/livekit.RoomService/RemoveParticipant", room.remove)
    stub.router.add_post("/twirp/livekit.RoomService/ListParticipants", room.list_participants)
    runner = web.AppRunner(stub, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield LiveKitClient(session, f"http://{host}:{port}", KEYPAIR)
    await runner.cleanup()


async def test_an_agent_that_leaves_while_it_is_removed_counts_as_removed(client: LiveKitClient) -> None:
    assert await client.remove_participant("room", "agent-AJ_1")


async def test_an_agent_that_is_still_in_after_no_answer_does_not(
    client: LiveKitClient, room: MuteRoom
) -> None:
    room.present.append("agent-AJ_1")
    with pytest.raises(LiveKitTimeout):
        await client.remove_participant("room", "agent-AJ_1")
