"""A local server's end, whatever moment its clients choose to connect."""

import asyncio
import socket

import pytest
from aiohttp import web

from devstack.local_server import LocalServer
from devstack.ports import LOOPBACK, free_port

_CLOSED_WITHIN_S = 10.0


@pytest.mark.parametrize("rounds", range(6))
async def test_a_connection_accepted_while_the_server_stops_is_closed(rounds: int) -> None:
    port = free_port()
    server = LocalServer(web.Application(), port)
    await server.start()
    with socket.create_connection((LOOPBACK, port)) as client:
        client.setblocking(False)
        for _ in range(rounds):
            await asyncio.sleep(0)
        await server.stop()

        async with asyncio.timeout(_CLOSED_WITHIN_S):
            try:
                received = await asyncio.get_running_loop().sock_recv(client, 1)
            except ConnectionResetError:
                received = b""
    assert received == b""
