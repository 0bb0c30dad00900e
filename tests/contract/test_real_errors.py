"""What the client makes of a LiveKit that does not answer, or not well; the fake is told what to raise."""

import asyncio
import uuid

import aiohttp
import pytest
from livekit import rtc

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.errors import LiveKitRefused, LiveKitUnavailable, LiveKitUnreachable
from app.lifecycle import UNTOLD
from app.livekit.client import LiveKitClient
from app.livekit.interface import HEALTH_METHOD, Probe
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.ports import LOOPBACK, free_port
from devstack.truth import eventually

pytestmark = pytest.mark.real


async def test_wrong_keys_are_refused(livekit_server: LiveKitServer) -> None:
    for keypair in (
        Keypair(key=livekit_server.api_key, secret="wrong-secret-of-at-least-32-characters"),
        Keypair(key="stranger", secret=livekit_server.api_secret),
    ):
        async with aiohttp.ClientSession() as session:
            client = LiveKitClient(session, livekit_server.url, keypair, SteadyClock())
            with pytest.raises(LiveKitRefused, match="API key and secret"):
                await client.list_rooms()
            with pytest.raises(LiveKitRefused, match="API key and secret"):
                await client.create_dispatch("room", "agent", "row", UNTOLD)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    keypair = Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters")
    async with aiohttp.ClientSession() as session:
        client = LiveKitClient(session, f"ws://{LOOPBACK}:{free_port()}", keypair, SteadyClock())
        with pytest.raises(LiveKitUnreachable):
            await client.list_rooms()
        with pytest.raises(LiveKitUnreachable):
            await client.create_dispatch("room", "agent", "row", UNTOLD)
        with pytest.raises(LiveKitUnreachable):
            await client.probe("room", "agent")


async def test_unavailable_is_not_mistaken_for_refused(real_client: LiveKitClient) -> None:
    with pytest.raises(LiveKitUnavailable):
        await real_client.list_dispatches("no-such-room")


async def test_who_leaves_while_asked_is_silent_or_cannot_be_asked_and_is_no_refusal(
    livekit_server: LiveKitServer, real_client: LiveKitClient
) -> None:
    room_name = f"left-{uuid.uuid4().hex[:12]}"
    is_asked = asyncio.Event()

    async def say_nothing(_call: rtc.RpcInvocationData) -> str:
        is_asked.set()
        return await asyncio.Future()

    async with Person() as person:
        await person.join(livekit_server.url, member_token(livekit_server, room_name, "alice"))
        person.room.local_participant.register_rpc_method(HEALTH_METHOD, say_nothing)
        probe = asyncio.create_task(real_client.probe(room_name, "alice"))

        async def has_arrived() -> bool:
            nonlocal probe
            if probe.done() and probe.result() is Probe.CONNECTING:
                probe = asyncio.create_task(real_client.probe(room_name, "alice"))
            return is_asked.is_set()

        await eventually(has_arrived, "the question has reached the participant")
        assert await real_client.remove_participant(room_name, "alice") is True

        # LiveKit says that there is no such participant, or that nobody answers: whichever it comes to first.
        (outcome,) = await asyncio.gather(probe, return_exceptions=True)
        assert outcome is Probe.SILENT or isinstance(outcome, LiveKitUnavailable), outcome
