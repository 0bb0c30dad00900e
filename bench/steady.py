"""An open-loop load: each webhook is due at its own moment, and its latency counts from that moment.

A closed loop, which sends only after an answer, sends nothing during a stall, and so misses the stall.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from bench.machine import LOAD_CORES, pinned

_CONNECTIONS = 64
_DRAIN_S = 10.0
_TAKEN = b"HTTP/1.1 200"

#: Takes an answer, empty if the connection was closed, and its latency from the due moment in seconds.
Answered: TypeAlias = Callable[[bytes, float], None]


class NotTakenError(RuntimeError):
    """A webhook was answered with another status than 200, or not at all."""


def steady_latencies_s(url: str, corpus: Path, per_second: float, duration_s: float) -> list[float]:
    """The latency of each webhook, from its due moment, in ascending order.

    Raises:
        NotTakenError: not all webhooks were accepted.
    """
    with pinned(LOAD_CORES):
        return sorted(asyncio.run(_send(url, corpus, per_second, duration_s)))


async def _send(url: str, corpus: Path, per_second: float, duration_s: float) -> list[float]:
    loop = asyncio.get_running_loop()
    count = round(per_second * duration_s)
    with corpus.open(encoding="utf-8") as lines:
        requests = deque(
            webhook_request(url, *line.rstrip("\n").split("\t", 1))
            for line, _ in zip(lines, range(count), strict=False)
        )
    latencies_s: list[float] = []
    all_answered, expected = loop.create_future(), len(requests)

    def take(answer: bytes, latency_s: float) -> None:
        latencies_s.append(latency_s)
        if all_answered.done():
            return
        if not is_taken(answer):
            all_answered.set_exception(NotTakenError(answer[:200].decode("utf-8", "replace")))
        elif len(latencies_s) == expected:
            all_answered.set_result(None)

    connections = await Connections.opened(url)
    try:
        begins_s = loop.time() + 0.1
        for number in range(expected):
            due_s = begins_s + number / per_second
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            connections.send(due_s, requests.popleft(), take)
        async with asyncio.timeout(_DRAIN_S):
            await all_answered
    finally:
        connections.close()
    return latencies_s


def webhook_request(url: str, authorization: str, body: str) -> bytes:
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/webhook+json\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def is_taken(answer: bytes) -> bool:
    return answer.startswith(_TAKEN)


class Connections:
    """The connections of the load, one request at a time on each; more requests wait in their order."""

    def __init__(self) -> None:
        self._all: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[float, bytes, Answered]] = deque()

    @classmethod
    async def opened(cls, url: str, count: int = _CONNECTIONS) -> "Connections":
        connections, parts = cls(), urlsplit(url)
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(
                lambda: _Connection(connections), parts.hostname or "", parts.port or 0
            )
            connections._all.append(connection)
            connections._idle.append(connection)
        return connections

    def send(self, due_s: float, request: bytes, answered: Answered) -> None:
        """Send when a connection is idle; `due_s`: by the event loop's clock, from where latency counts."""
        if self._idle:
            self._idle.popleft().send(due_s, request, answered)
        else:
            self._waiting.append((due_s, request, answered))

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _take_back(self, connection: "_Connection") -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _forget(self, connection: "_Connection") -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._due_s = 0.0
        self._answered: Answered | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream needs a transport to write to")
        self._transport = transport

    def send(self, due_s: float, request: bytes, answered: Answered) -> None:
        if self._transport is None:
            raise NotTakenError("the connection is not open")
        self._due_s, self._answered = due_s, answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        # All contenders' responses are small and arrive in one piece.
        answered, self._answered = self._answered, None
        latency_s = asyncio.get_running_loop().time() - self._due_s
        self._connections._take_back(self)  # noqa: SLF001 - the other half of the class
        if answered:
            answered(data, latency_s)

    def connection_lost(self, exc: Exception | None) -> None:
        answered, self._answered = self._answered, None
        self._connections._forget(self)  # noqa: SLF001 - the other half of the class
        if answered:
            answered(b"", asyncio.get_running_loop().time() - self._due_s)

    def close(self) -> None:
        if self._transport:
            self._transport.close()
