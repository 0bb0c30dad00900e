"""Slow, idle and too many connections, on real sockets; other clients are still served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.config.settings import ANY_HOST
from app.web import bodies
from app.web.connections import ConnectionLimiter, listen
from app.web.keys import LANES
from fakes.server import FakeServer
from integration.harness import API_KEY, BOUND_S, DISPATCH, WEBHOOK, App, World

_SIGNED_IN = f"Host: x\r\nAuthorization: Bearer {API_KEY}\r\n"
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


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
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def listening(app: App, *, limit: int = 100, head_timeout_s: float = BOUND_S * 2) -> AsyncIterator[int]:
    """A second listener of the app, with limits of the test."""
    assert app.runner.server is not None
    limiter = ConnectionLimiter(
        app.runner.server, app.runner.app[LANES], limit=limit, head_timeout_s=head_timeout_s
    )
    server = await asyncio.get_running_loop().create_server(limiter, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        assert len(limiter) <= limit
    finally:
        server.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nX-A: 1\r\n"], ids=["nothing", "half a head"]
)
async def test_a_connection_without_a_complete_head_is_closed(app: App, sent: bytes) -> None:
    async with listening(app, head_timeout_s=0.2) as port, connected(port) as slow:
        slow.send(sent)
        assert await slow.end() == b""


async def test_slow_header_bytes_do_not_extend_the_time_limit(app: App) -> None:
    async with listening(app, head_timeout_s=0.3) as port, connected(port) as slow:

        async def drip() -> None:
            while True:
                slow.send(b"X")
                await asyncio.sleep(0.02)

        slow.send(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        dripping = asyncio.create_task(drip())
        assert await slow.end() == b""
        dripping.cancel()


async def test_the_time_limit_is_for_heads_and_not_for_idle_connections(app: App) -> None:
    async with listening(app, head_timeout_s=0.2) as port, connected(port) as client:
        client.send(_HEALTH)
        assert (await client.answer()).startswith(b"HTTP/1.1 200")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.reader.read()
        client.send(_HEALTH)
        assert (await client.answer()).startswith(b"HTTP/1.1 200")
        client.send(_HEALTH[:10])
        assert await client.end() == b""


async def test_a_body_that_does_not_arrive_is_408(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    head = f"POST {DISPATCH} HTTP/1.1\r\n{_SIGNED_IN}Content-Length: 100\r\n\r\n"
    async with connected(app.port) as slow:
        slow.send(head.encode() + b'{"roomName"')
        answer = await slow.answer()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"code":"too_slow"' in answer
        assert (await app.call("GET", "/healthz")).status == 200
        assert await slow.end() == b""


@pytest.mark.parametrize("path", [WEBHOOK, DISPATCH])
async def test_without_credentials_the_body_is_not_awaited(app: App, path: str) -> None:
    async with connected(app.port) as stranger:
        stranger.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n".encode())
        assert (await stranger.answer()).startswith(b"HTTP/1.1 401")
        assert await stranger.end() == b""


async def test_idle_connections_do_not_block_new_ones(app: App) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(app, limit=20))
        silent = [await stack.enter_async_context(connected(port)) for _ in range(1_000)]
        for _ in range(5):
            newcomer = await stack.enter_async_context(connected(port))
            newcomer.send(_HEALTH)
            assert (await newcomer.answer()).startswith(b"HTTP/1.1 200")
        assert await silent[0].end() == b""


async def test_at_the_limit_new_connections_get_503_and_open_ones_stay(app: App) -> None:
    ask = f"POST {DISPATCH} HTTP/1.1\r\n{_SIGNED_IN}Content-Length: 2\r\n"
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(app, limit=3))
        served = [await stack.enter_async_context(connected(port)) for _ in range(3)]
        for client in served:
            client.send(ask.encode() + b"Expect: 100-continue\r\n\r\n")
        for client in served:
            # It is being served now, and keeps its place until the body has arrived.
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        newcomer = await stack.enter_async_context(connected(port))
        refused = await newcomer.end()
        assert refused.startswith(b"HTTP/1.1 503")
        assert b'"code":"busy"' in refused
        assert b"Retry-After: 1" in refused
        for client in served:
            client.send(b"{}")
            assert (await client.answer()).startswith(b"HTTP/1.1 422")
        newcomer = await stack.enter_async_context(connected(port))
        newcomer.send(_HEALTH)
        assert (await newcomer.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"<script>alert(1)</script>\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: x\r\n" * 100 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["tls", "markup", "long header", "many headers", "smuggling"],
)
async def test_invalid_http_is_400_and_neither_echoed_nor_logged(
    app: App, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(app.port) as stranger:
        stranger.send(garbage)
        answer = await stranger.answer()
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b'"code":"malformed"' in answer
    assert b"X-Content-Type-Options: nosniff" in answer
    assert b"script" not in answer.partition(b"\r\n\r\n")[2]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_connection_closed_within_a_body_logs_no_failure(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    ask = f"POST {DISPATCH} HTTP/1.1\r\n{_SIGNED_IN}Content-Length: 2\r\n"
    async with connected(app.port) as client:
        client.send(ask.encode() + b"Expect: 100-continue\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(BOUND_S):
        while app.runner.server and app.runner.server.connections:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_webhook_that_waits_to_be_invited_is_invited_at_once(
    app: App, world: World, server: FakeServer
) -> None:
    """As curl and some proxies send bodies of more than a kibibyte."""
    server.join("room")
    webhook = world.post.take()[-1]
    head = (
        f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nAuthorization: {webhook.authorization}\r\n"
        f"Content-Type: application/webhook+json\r\nContent-Length: {len(webhook.body)}\r\n"
    )
    async with connected(app.port) as client:
        for _ in range(2):
            client.send(head.encode() + b"Expect: 100-continue\r\n\r\n")
            async with asyncio.timeout(BOUND_S):
                invited = await client.reader.readuntil(b"\r\n\r\n")
            assert invited == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(webhook.body)
            assert (await client.answer()).startswith(b"HTTP/1.1 200")
        client.send(head.encode() + b"Connection: close\r\nExpect: miracles\r\n\r\n")
        assert (await client.end()).startswith(b"HTTP/1.1 417")
    assert [row["kind"] for row in world.rows("participants")] == ["person"]


@pytest.mark.parametrize(
    ("host", "reached"), [(ANY_HOST, ["127.0.0.1", "::1"]), ("127.0.0.1", ["127.0.0.1"])]
)
async def test_the_default_host_is_ipv4_and_ipv6(app: App, host: str, reached: list[str]) -> None:
    listener = await listen(app.runner, host, 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        for address in reached:
            reader, writer = await asyncio.open_connection(address, port)
            client = Client(reader, writer)
            client.send(_HEALTH.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            assert (await client.end()).startswith(b"HTTP/1.1 200")
            writer.close()
    finally:
        listener.close()


async def test_where_there_is_no_ipv6_the_default_host_is_ipv4(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: False)
    listener = await listen(app.runner, ANY_HOST, 0)
    try:
        async with connected(listener.sockets[0].getsockname()[1]) as client:
            client.send(_HEALTH)
            assert (await client.answer()).startswith(b"HTTP/1.1 200")
    finally:
        listener.close()
