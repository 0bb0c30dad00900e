"""TCP connections to the app, used byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from integration.harness import BOUND_S


class Client:
    """One TCP connection, used byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """One whole answer; its body has a Content-Length."""
        async with asyncio.timeout(BOUND_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            return head + await self.reader.readexactly(int(length))

    async def end(self) -> bytes:
        """Everything until the other side closes; a reset counts as closed."""
        async with asyncio.timeout(BOUND_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connected(port: int, *, receives: int | None = None) -> AsyncIterator[Client]:
    """`receives`: the size of the buffer for what is not read; None: the system's."""
    with closing(socket.socket()) as connection:
        connection.setblocking(False)
        if receives is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        # A small limit keeps the stream from reading on into memory.
        limit = 2**16 if receives is None else 1
        reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
