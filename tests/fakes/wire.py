"""The wire to a Postgres, which can be cut, or go dead without a word."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

#: What a server on port 5432 calls its socket.
_SOCKET = ".s.PGSQL.5432"


class Wire:
    """Listens in `folder` for the server whose socket is in another."""

    def __init__(self, folder: Path, server_folder: Path) -> None:
        self.folder = folder
        self._server_folder = server_folder
        self._open = asyncio.Event()
        self._open.set()
        self._ways: set[asyncio.Task[None]] = set()
        #: How often the client has sent something and waited for the server's answer.
        self.round_trips = 0
        self._is_asked = False

    def freeze(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, self.folder / _SOCKET)
        try:
            yield
        finally:
            server.close()
            for way in self._ways:
                way.cancel()
            await asyncio.gather(*self._ways, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(self._server_folder / _SOCKET)
        for way in (
            self._carry(reader, to_writer, self._note_question),
            self._carry(to_reader, writer, self._note_answer),
        ):
            self._ways.add(asyncio.create_task(way))

    def _note_question(self) -> None:
        self.round_trips += not self._is_asked
        self._is_asked = True

    def _note_answer(self) -> None:
        self._is_asked = False

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
    ) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    note()
                    await self._open.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
