"""Slow, idle and too many connections, on real sockets; other clients are still served."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.config.settings import ANY_HOST
from app.web import bodies
from app.web.calls import CALL_LIMIT
from app.web.connection_limiter import ConnectionLimiter
from app.web.listener import listen
from app.web.webhook import WEBHOOK_INTAKE
from fakes.faults import Hang
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import API_KEY, BOUND_S, DISPATCH, STATUS, WEBHOOK, App, World
from integration.sockets import Client, connected

_SIGNED_IN = f"Host: x\r\nAuthorization: Bearer {API_KEY}\r\n"
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def listening(
    app: App, *, limit: int = 100, head_timeout_s: float = BOUND_S * 2, read_timeout_s: float = BOUND_S * 2
) -> AsyncIterator[int]:
    """A second listener of the app, with limits of the test."""
    assert app.runner.server is not None
    limiter = ConnectionLimiter(
        app.runner.server,
        app.runner.app[WEBHOOK_INTAKE],
        limit=limit,
        head_timeout_s=head_timeout_s,
        read_timeout_s=read_timeout_s,
    )
    server = await asyncio.get_running_loop().create_server(limiter, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        assert len(limiter) <= limit
    finally:
        server.close()


def ask_for(room: str) -> bytes:
    """A call for an agent in a room of its own, as bytes."""
    body = json.dumps({"roomName": room})
    return f"POST {DISPATCH} HTTP/1.1\r\n{_SIGNED_IN}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def calls_under_way(livekit: FakeLiveKit, count: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while livekit.count("find_room") < count:  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0)


async def all_closed(app: App, *, leave: int = 0) -> None:
    """Wait until at most so many connections are open."""
    async with asyncio.timeout(BOUND_S):
        while app.runner.server and len(app.runner.server.connections) > leave:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(0)


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
    async with listening(app, head_timeout_s=1) as port, connected(port) as client:
        client.send(_HEALTH)
        assert (await client.answer()).startswith(b"HTTP/1.1 200")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
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


async def test_at_the_limit_new_connections_get_503_and_open_ones_stay(
    app: App, livekit: FakeLiveKit
) -> None:
    """With a call under way on each. The newcomer sees the answer, though nobody has read its request."""
    hanging = Hang()
    livekit.faults.everywhere(hanging)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(app, limit=3))
        served = [await stack.enter_async_context(connected(port)) for _ in range(3)]
        for number, client in enumerate(served):
            client.send(ask_for(f"room-{number}"))
            await calls_under_way(livekit, number + 1)
        for _ in range(20):
            newcomer = await stack.enter_async_context(connected(port))
            newcomer.send(_HEALTH * 20)
            refused = await newcomer.end()
            assert refused.startswith(b"HTTP/1.1 503")
            assert b'"code":"busy"' in refused
            assert b"Retry-After: 1" in refused
        hanging.release()
        for client in served:
            assert (await client.answer()).startswith(b"HTTP/1.1 200")
        newcomer = await stack.enter_async_context(connected(port))
        newcomer.send(_HEALTH)
        assert (await newcomer.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/swagger-ui-bundle.js"])
async def test_a_peer_that_reads_nothing_is_put_out(app: App, path: str) -> None:
    async with listening(app, read_timeout_s=0.3) as port, connected(port, receives=2_048) as reader:
        # More than the kernel takes in place of the peer.
        reader.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 400)
        await all_closed(app)


async def test_a_peer_that_reads_slowly_is_served(app: App) -> None:
    async with listening(app, read_timeout_s=2) as port, connected(port, receives=8_192) as slow:
        slow.send(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        read = 0
        async with asyncio.timeout(BOUND_S * 4):
            while piece := await slow.reader.read(16_384):
                read += len(piece)
                # Several times as long in all as it may read nothing.
                await asyncio.sleep(0.04)
        assert read > 1_000_000


async def test_peers_that_read_nothing_keep_nobody_out(app: App) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(app, limit=20))
        for _ in range(40):
            reader = await stack.enter_async_context(connected(port, receives=2_048))
            reader.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
        for _ in range(5):
            newcomer = await stack.enter_async_context(connected(port))
            newcomer.send(_HEALTH)
            assert (await newcomer.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        f"POST {DISPATCH} HTTP/1.1\r\n{_SIGNED_IN}",
        "POST /dashboard/session HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n",
    ],
    ids=["a call", "a sign-in"],
)
async def test_bodies_that_do_not_arrive_keep_nobody_out(app: App, head: str) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(app, limit=5))
        for _ in range(10):
            slow = await stack.enter_async_context(connected(port))
            slow.send(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        for _ in range(5):
            newcomer = await stack.enter_async_context(connected(port))
            newcomer.send(_HEALTH)
            assert (await newcomer.answer()).startswith(b"HTTP/1.1 200")
        await all_closed(app, leave=5)


async def test_a_body_that_arrives_late_is_taken(app: App) -> None:
    """Once it is there, its caller waits for us, and keeps its place."""
    async with listening(app, limit=2) as port, connected(port) as caller:
        caller.send(ask_for("room").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        caller.send(ask_for("room").partition(b"\r\n\r\n")[2])
        assert (await caller.answer()).startswith(b"HTTP/1.1 200")


async def test_calls_beyond_the_limit_get_503_at_once_and_keep_nobody_out(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    hanging = Hang()
    livekit.faults.everywhere(hanging)
    async with AsyncExitStack() as stack:
        callers = []
        for number in range(CALL_LIMIT + 20):
            callers.append(await stack.enter_async_context(connected(app.port)))
            callers[-1].send(ask_for(f"room-{number}"))
        for caller in callers[CALL_LIMIT:]:
            refused = await caller.answer()
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"Too many calls are under way" in refused
        assert (await app.call("GET", "/healthz")).status == 200
        assert (await app.call("GET", "/readyz")).status == 200
        server.join("another-room")
        for webhook in world.post.take():
            assert (await app.deliver(webhook)).status == 200
        hanging.release()
        for caller in callers[:CALL_LIMIT]:
            assert (await caller.answer()).startswith(b"HTTP/1.1 200")
        callers[0].send(ask_for("one-more"))
        assert (await callers[0].answer()).startswith(b"HTTP/1.1 200")


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
    await all_closed(app)
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


@pytest.mark.parametrize(("path", "code"), [(STATUS, b'"http_error"'), ("/nowhere", b"")])
async def test_an_expectation_that_nobody_knows_is_answered(app: App, path: str, code: bytes) -> None:
    async with connected(app.port) as client:
        ask = f"GET {path} HTTP/1.1\r\n{_SIGNED_IN}Connection: close\r\nExpect: miracles\r\n\r\n"
        client.send(ask.encode())
        answer = await client.end()
    assert answer.startswith(b"HTTP/1.1 417")
    assert b"X-Request-Id" in answer
    assert code in answer


@pytest.mark.parametrize(
    ("host", "reached"), [(ANY_HOST, ["127.0.0.1", "::1"]), ("127.0.0.1", ["127.0.0.1"])]
)
async def test_the_default_host_is_ipv4_and_ipv6(app: App, host: str, reached: list[str]) -> None:
    listener = await listen(app.runner, host, 0)
    port = listener.port
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
        async with connected(listener.port) as client:
            client.send(_HEALTH)
            assert (await client.answer()).startswith(b"HTTP/1.1 200")
    finally:
        listener.close()
