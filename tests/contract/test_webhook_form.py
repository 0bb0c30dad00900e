"""The bytes that the real server posts: its requests have the form that is taken the short way."""

import asyncio
from pathlib import Path

import pytest
from livekit import api

from app.livekit.webhooks import read_usual
from app.web.keys import WEBHOOK_PATH
from app.web.usual_request import usual_request
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK

pytestmark = pytest.mark.real

_BOUND_S = 30.0


async def test_livekits_request_is_usual_and_comes_whole(tmp_path: Path) -> None:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read(2**16)
        if not arrived.done():
            arrived.set_result(received)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(receive, LOOPBACK, 0)
    port = listener.sockets[0].getsockname()[1]
    server = LiveKitServer(
        find_or_build(), tmp_path, webhook_urls=[f"http://{LOOPBACK}:{port}{WEBHOOK_PATH}"]
    )
    async with listener:
        await asyncio.to_thread(server.start)
        try:
            async with api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client:
                await client.room.create_room(api.CreateRoomRequest(name="room"))
            received = await asyncio.wait_for(arrived, _BOUND_S)
        finally:
            await asyncio.to_thread(server.stop)
    request = usual_request(received)
    assert request is not None, received
    assert request.missing_in(received) == 0
    keys = {server.api_key: (server.api_secret,)}
    webhook = read_usual(request.authorization, received[request.body_at :], keys)
    assert webhook is not None
    assert webhook.name == "room_started"
