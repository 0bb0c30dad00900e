"""An open-loop load: each webhook is due at its own moment, and its latency counts from that moment.

A closed loop, which sends only after an answer, sends nothing during a stall, and so misses the stall.
"""

import asyncio
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import LOAD_CORES, pinned

_CONNECTIONS = 64
_DRAIN_S = 10.0


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
    parts = urlsplit(url)
    count = round(per_second * duration_s)
    with corpus.open(encoding="utf-8") as lines:
        requests = deque(
            _request(parts.path, parts.netloc, line) for line, _ in zip(lines, range(count), strict=False)
        )
    field = _Field(len(requests))
    for _ in range(_CONNECTIONS):
        await loop.create_connection(lambda: _Connection(field), parts.hostname or "", parts.port or 0)
    begins_s = loop.time() + 0.1
    for number in range(len(requests)):
        due_s = begins_s + number / per_second
        if (wait_s := due_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        field.take(due_s, requests.popleft())
    async with asyncio.timeout(_DRAIN_S):
        await field.all_answered.wait()
    for connection in field.idle:
        connection.close()
    return field.latencies_s


def _request(path: str, host: str, line: str) -> bytes:
    authorization, body = line.rstrip("\n").split("\t", 1)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/webhook+json\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


class _Field:
    """The due requests, and the idle connections that can send them."""

    def __init__(self, count: int) -> None:
        self.latencies_s: list[float] = []
        self.idle: deque[_Connection] = deque()
        self.all_answered = asyncio.Event()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._count = count

    def take(self, due_s: float, request: bytes) -> None:
        if self.idle:
            self.idle.popleft().send(due_s, request)
        else:
            self._waiting.append((due_s, request))

    def answered(self, connection: "_Connection", latency_s: float) -> None:
        self.latencies_s.append(latency_s)
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)
        if len(self.latencies_s) == self._count:
            self.all_answered.set()


class _Connection(asyncio.Protocol):
    def __init__(self, field: _Field) -> None:
        self._field = field
        self._due_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream needs a transport to write to")
        self._transport = transport
        self._field.idle.append(self)

    def send(self, due_s: float, request: bytes) -> None:
        if self._transport is None:
            raise NotTakenError("the connection is not open")
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        # All contenders' responses are small and arrive in one piece.
        if not data.startswith(b"HTTP/1.1 200"):
            raise NotTakenError(data[:200].decode("utf-8", "replace"))
        self._field.answered(self, asyncio.get_running_loop().time() - self._due_s)

    def close(self) -> None:
        if self._transport:
            self._transport.close()
