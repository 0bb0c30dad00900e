"""Webhooks byte by byte: the short way and aiohttp's give the same answers, one after the other."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.livekit.webhooks import sign
from app.web.webhook_connections import WebhookConnection
from fakes.server import FakeServer
from fakes.webhooks import SignedWebhook
from integration.harness import BOUND_S, KEYPAIR, WEBHOOK, App, World
from integration.sockets import Client, connected
from integration.test_metrics import samples
from integration.test_security_connections import all_closed, listening

Join = Callable[[str], SignedWebhook]

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def written(webhook: SignedWebhook, *headers: str) -> bytes:
    """As LiveKit sends it; with other headers it may not be in the usual form."""
    lines = [
        f"POST {WEBHOOK} HTTP/1.1",
        "Host: service",
        "User-Agent: Go-http-client/1.1",
        f"Content-Length: {len(webhook.body)}",
        f"Authorization: {webhook.authorization}",
        "Content-Type: application/webhook+json",
        "Accept-Encoding: gzip",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + webhook.body


#: A header that only aiohttp takes.
LONG_WAY = "Cookie: a=b"


def signed(content: object) -> SignedWebhook:
    body = json.dumps(content).encode()
    return SignedWebhook(body=body, authorization=sign(body, KEYPAIR), event="", room_name="")


@pytest.fixture
def join(world: World, server: FakeServer) -> Join:
    """Makes somebody join a room that is there, and returns LiveKit's webhook."""
    server.join("room", "first")

    def join(identity: str) -> SignedWebhook:
        world.post.take()
        server.join("room", identity)
        return world.post.take()[-1]

    return join


async def ways(app: App) -> dict[str, float]:
    found = await samples(app)
    return {way: found.get(f"webhook_ways_total{{{way}}}", 0) for way in ("short", "long")}


async def ask(client: Client, sent: bytes) -> bytes:
    client.send(sent)
    return await client.answer()


def parts(answer: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, headers and body, with what differs by request replaced."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.decode().split(": ", 1) for line in lines)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers.pop("Date"))
    request_id = headers.pop("X-Request-Id")
    return status, headers, body.replace(request_id.encode(), b"(id)")


async def test_both_ways_give_the_same_answer(app: App, join: Join, world: World) -> None:
    async with connected(app.port) as client:
        short = await ask(client, written(join("alice")))
        long = await ask(client, written(join("bob"), LONG_WAY))
    assert parts(short) == parts(long)
    assert await ways(app) == {"short": 1, "long": 1}
    assert len(world.rows("participants")) == 2


async def test_a_failure_is_answered_alike_both_ways(app: App, join: Join, world: World) -> None:
    world.database_faults.down = True
    async with connected(app.port) as client:
        short = await ask(client, written(join("alice")))
        long = await ask(client, written(join("bob"), LONG_WAY))
    assert short.startswith(b"HTTP/1.1 503 ")
    assert parts(short) == parts(long)
    assert await ways(app) == {"short": 1, "long": 1}
    world.database_faults.down = False
    assert (await samples(app))["webhooks_total{participant_joined,database_unavailable}"] == 2


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda one: replace(one, body=one.body + b" "), 401),
        (lambda one: replace(one, authorization=one.authorization[:-3] + "AAA"), 401),
        (lambda one: replace(one, authorization="x"), 401),
        (lambda _: signed({"event": ""}), 400),
        (lambda _: signed(["participant_joined"]), 400),
    ],
    ids=["another body", "another signature", "no token", "no event", "no object"],
)
async def test_what_is_not_valid_is_refused_by_the_handler(
    app: App,
    join: Join,
    world: World,
    spoil: Callable[[SignedWebhook], SignedWebhook],
    status: int,
) -> None:
    async with connected(app.port) as client:
        answer = await ask(client, written(spoil(join("alice"))))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert await ways(app) == {"short": 0, "long": 1}
    assert not world.rows("participants")


@pytest.mark.parametrize(
    "headers",
    [(), ("X-Request-Id: from-the-proxy",), ("X-Request-Id: not valid",)],
    ids=["none", "own", "bad"],
)
async def test_the_callers_request_id_comes_back(app: App, join: Join, headers: tuple[str, ...]) -> None:
    async with connected(app.port) as client:
        answer = await ask(client, written(join("alice"), *headers))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (b"X-Request-Id: from-the-proxy\r\n" in answer) is (headers == ("X-Request-Id: from-the-proxy",))


async def test_a_webhook_that_the_service_does_not_need_is_answered_at_once(app: App, world: World) -> None:
    async with connected(app.port) as client:
        for _ in range(3):
            ignored = signed({"event": "track_published", "id": "EV_1", "createdAt": "1"})
            assert (await ask(client, written(ignored))).startswith(b"HTTP/1.1 200 ")
    assert await ways(app) == {"short": 3, "long": 0}
    assert (await samples(app))["webhooks_total{track_published,ignored}"] == 3
    assert not world.rows("webhook_events")


async def test_a_webhook_in_pieces_is_aiohttps_and_the_next_one_is_not(
    app: App, join: Join, world: World
) -> None:
    """Go's client sends a body of several kilobytes apart from the head."""
    first, second = written(join("alice")), written(join("bob"))
    async with connected(app.port) as client:
        for cut in (10, first.index(b"\r\n\r\n") + 4, len(first) - 1):
            client.send(first[:cut])
            await arrived(app, client)
            client.send(first[cut:])
            assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
            assert (await ask(client, second)).startswith(b"HTTP/1.1 200 ")
    # A head in pieces might be anything: the connection stays aiohttp's.
    assert await ways(app) == {"short": 0, "long": 6}
    async with connected(app.port) as client:
        client.send(first[: len(first) - 1])
        await arrived(app, client)
        client.send(first[-1:])
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert (await ask(client, second)).startswith(b"HTTP/1.1 200 ")
    assert await ways(app) == {"short": 1, "long": 7}
    assert len(world.rows("participants")) == 2


async def arrived(app: App, client: Client) -> None:
    """Wait until the service has read what was sent, which it shows by answering somebody else."""
    await client.writer.drain()
    async with connected(app.port) as other:
        await ask(other, HEALTH)


async def test_webhooks_that_come_at_once_are_answered_in_order(app: App, join: Join, world: World) -> None:
    webhooks = [written(join(f"person-{number}"), f"X-Request-Id: id-{number}") for number in range(20)]
    async with connected(app.port) as client:
        client.send(b"".join(webhooks) + HEALTH)
        for number in range(20):
            answer = await client.answer()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert f"X-Request-Id: id-{number}\r\n".encode() in answer
        assert b'"status"' in await client.answer()
    assert len(world.rows("participants")) == 20


async def test_what_comes_while_a_webhook_is_under_way_waits(app: App, join: Join, world: World) -> None:
    first, second = join("alice"), join("bob")
    async with connected(app.port) as client:
        with world.database_faults.holding() as held:
            client.send(written(first, "X-Request-Id: first"))
            await held.begun()
            client.send(written(second, "X-Request-Id: second"))
            await arrived(app, client)
            client.send(HEALTH)
            await arrived(app, client)
        assert b"X-Request-Id: first\r\n" in await client.answer()
        assert b"X-Request-Id: second\r\n" in await client.answer()
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    assert len(world.rows("participants")) == 2


async def test_a_connection_that_is_lost_meanwhile_loses_no_webhook(
    app: App, join: Join, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(app.port) as client:
        with world.database_faults.holding() as held:
            client.send(written(join("alice")))
            await held.begun()
            client.writer.transport.abort()
            await all_closed(app)
        async with connected(app.port) as other:
            assert (await ask(other, written(join("bob")))).startswith(b"HTTP/1.1 200 ")
    assert len(world.rows("participants")) == 2
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_peer_that_reads_no_answers_is_put_out(app: App, join: Join) -> None:
    webhook = written(join("alice"))
    async with listening(app, read_timeout_s=0.3) as port, connected(port, receives=2_048) as reader:

        async def send_one_by_one() -> None:
            while not reader.writer.is_closing():
                reader.send(webhook)
                await reader.writer.drain()
                await asyncio.sleep(0)

        sending = asyncio.create_task(send_one_by_one())
        await all_closed(app)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_peer_that_reads_late_gets_every_answer(app: App, join: Join, world: World) -> None:
    """Its webhooks wait meanwhile, as those of a peer that pipelines do."""
    webhooks = [written(join(f"person-{number}")) for number in range(2)]
    async with connected(app.port, receives=2_048) as late:
        sent = 0
        while not is_stopped(app):
            late.send(webhooks[sent % 2])
            sent += 1
            await arrived(app, late)
        late.send(webhooks[0])
        answers = b""
        async with asyncio.timeout(BOUND_S):
            while answers.count(b"HTTP/1.1 200 ") <= sent:
                answers += await late.reader.read(2**16)
    assert len(world.rows("participants")) == 2


def is_stopped(app: App) -> bool:
    """Whether a connection does not read, since its peer does not."""
    assert app.runner.server is not None
    return any(
        isinstance(one, WebhookConnection) and one.is_writing_paused for one in app.runner.server.connections
    )


async def test_a_webhook_that_is_answered_at_once_renews_the_place(app: App) -> None:
    ignored = written(signed({"event": "track_published", "id": "EV_1", "createdAt": "1"}))
    async with (
        listening(app, limit=2) as port,
        connected(port) as first,
        connected(port) as second,
    ):
        for client in (first, second, first):
            assert (await ask(client, ignored)).startswith(b"HTTP/1.1 200 ")
        async with connected(port) as third:
            assert (await ask(third, HEALTH)).startswith(b"HTTP/1.1 200 ")
            assert await second.end() == b""
            assert (await ask(first, ignored)).startswith(b"HTTP/1.1 200 ")


async def test_webhooks_count_for_the_limit_of_connections(app: App, join: Join, world: World) -> None:
    """One under way keeps its place; one that is answered waits for its peer as others do."""
    async with listening(app, limit=1) as port, connected(port) as client:
        with world.database_faults.holding() as held:
            client.send(written(join("alice")))
            await held.begun()
            async with connected(port) as refused:
                refused.send(HEALTH)
                assert (await refused.end()).startswith(b"HTTP/1.1 503 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        async with connected(port) as newcomer:
            assert (await ask(newcomer, HEALTH)).startswith(b"HTTP/1.1 200 ")
        assert await client.end() == b""


async def test_an_idle_connection_of_webhooks_stays_open(app: App, join: Join) -> None:
    async with listening(app, head_timeout_s=0.3) as port, connected(port) as client:
        assert (await ask(client, written(join("alice")))).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await client.reader.read()
        assert (await ask(client, written(join("bob")))).startswith(b"HTTP/1.1 200 ")


async def test_a_stop_waits_for_the_webhook_under_way(app: App, join: Join, world: World) -> None:
    first, second = join("alice"), join("bob")
    async with connected(app.port) as client:
        with world.database_faults.holding() as held:
            client.send(written(first))
            await held.begun()
            # It comes too late to be taken, and LiveKit sends it again.
            client.send(written(second))
            await arrived(app, client)
            stopping = asyncio.create_task(app.stop())
            await stop_begun(app)
        answers = await client.end()
        await stopping
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert len(world.rows("participants")) == 1


async def stop_begun(app: App) -> None:
    """Wait until nobody can connect any more."""
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                async with connected(app.port):
                    await asyncio.sleep(0)
            except ConnectionError:
                return


async def test_a_stop_that_takes_too_long_gives_up_the_webhook(app: App, join: Join, world: World) -> None:
    """LiveKit sends it again, and it may be committed all the same."""
    async with connected(app.port) as client:
        with world.database_faults.holding() as held:
            client.send(written(join("alice")))
            await held.begun()
            stopping = asyncio.create_task(app.stop())
            answer = await client.end()
        await stopping
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"The service is stopping; retry" in answer
    assert len(world.rows("participants")) == 1
