"""What the client makes of a LiveKit that does not answer, or not well; the fake is told what to raise."""

import aiohttp
import pytest

from app.clock import SteadyClock
from app.config import Keypair
from app.errors import LiveKitRefused, LiveKitUnavailable, LiveKitUnreachable
from app.livekit_client import LiveKitClient
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port

pytestmark = pytest.mark.real


async def test_wrong_keys_are_refused(contract_server: LiveKitServer) -> None:
    for keypair in (
        Keypair(key=contract_server.api_key, secret="wrong-secret-of-at-least-32-characters"),
        Keypair(key="stranger", secret=contract_server.api_secret),
    ):
        async with aiohttp.ClientSession() as session:
            client = LiveKitClient(session, contract_server.url, keypair, SteadyClock())
            with pytest.raises(LiveKitRefused, match="API key and secret"):
                await client.list_rooms()
            with pytest.raises(LiveKitRefused, match="API key and secret"):
                await client.create_dispatch("room", "agent", "row", "{}")


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    keypair = Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters")
    async with aiohttp.ClientSession() as session:
        client = LiveKitClient(session, f"ws://{LOOPBACK}:{free_port()}", keypair, SteadyClock())
        with pytest.raises(LiveKitUnreachable):
            await client.list_rooms()
        with pytest.raises(LiveKitUnreachable):
            await client.create_dispatch("room", "agent", "row", "{}")
        with pytest.raises(LiveKitUnreachable):
            await client.probe("room", "agent")


async def test_unavailable_is_not_mistaken_for_refused(real_client: LiveKitClient) -> None:
    with pytest.raises(LiveKitUnavailable):
        await real_client.list_dispatches("no-such-room")
