"""A thousand hostile connections at once: webhooks, probes and members are served all the while."""

import asyncio
import multiprocessing
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from app.clock import SteadyClock
from app.web.dashboard.access import PATH
from fakes.clock import FakeClock
from fakes.post import Post
from fakes.server import FakeServer
from integration import process
from integration.harness import API_KEY, BOUND_S, DISPATCH, KEYPAIR, STATUS, member_token
from integration.sockets import Client, connected

HOSTILE = 1_000
#: How often everybody else is served while they go on.
ROUNDS = 20
#: A round takes a tenth of a second on a machine of its own, and hangs where places or files run out.
SERVED_WITHIN_S = 20.0
#: Whom the service puts out comes back after this time, more or less.
_COMES_BACK_AFTER_S = 0.5

_SIGN_IN = (
    f"POST {PATH}/session HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 50\r\n\r\n"
)

Attack = Callable[[Client, int], Awaitable[object]]


async def send_nothing(client: Client, _: int) -> None:
    await client.end()


async def drip_a_head(client: Client, _: int) -> None:
    client.send(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    while not client.reader.at_eof():
        client.send(b"x")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.reader.read(1)


async def read_nothing(client: Client, _: int) -> None:
    # More than the kernel takes in place of the peer.
    client.send(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    await asyncio.Event().wait()


async def send_half_a_body(client: Client, _: int) -> None:
    client.send(_SIGN_IN.encode() + b'Content-Length: 50\r\n\r\n{"apiKey":')
    await client.end()


async def send_no_http(client: Client, _: int) -> None:
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    await client.end()


async def call_a_livekit_that_hangs(client: Client, number: int) -> None:
    body = f'{{"roomName": "room-{number}"}}'
    head = (
        f"POST {DISPATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {member_token(f'room-{number}')}\r\n"
    )
    client.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await client.end()


#: Of twenty connections; most are of the kinds that hold a place longest.
ATTACKS: tuple[Attack, ...] = (
    send_nothing,
    *[read_nothing] * 13,
    drip_a_head,
    *[send_half_a_body] * 2,
    send_no_http,
    *[call_a_livekit_that_hangs] * 2,
)


@contextmanager
def besieged(port: int) -> Iterator[Connection]:
    """Hostile connections of another process, whose work would slow down those that are measured here.

    It says when all of them have come. To anything it hears it answers how many have given up, and ends.
    """
    ours, theirs = multiprocessing.Pipe()
    besieger = multiprocessing.get_context("spawn").Process(target=besiege, args=(port, theirs), daemon=True)
    besieger.start()
    try:
        yield ours
    finally:
        besieger.kill()
        besieger.join()


def besiege(port: int, parent: Connection) -> None:
    # Each hostile connection is a file of this process.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, HOSTILE * 4)), hard))
    asyncio.run(_besiege(port, parent))


async def _besiege(port: int, parent: Connection) -> None:
    arrived: set[int] = set()
    hostile = [asyncio.create_task(attack(port, number, arrived)) for number in range(HOSTILE)]
    while len(arrived) < HOSTILE:  # noqa: ASYNC110 - each of them only adds to it
        await asyncio.sleep(0.05)
    parent.send("all have come")
    await asyncio.to_thread(parent.recv)
    parent.send(sum(task.done() for task in hostile))
    # Its tasks go on until it is killed: to end them in order takes long.
    await asyncio.Event().wait()


async def answer_of(connection: Connection) -> object:
    assert await asyncio.to_thread(connection.poll, BOUND_S), "no answer in time"
    answer: object = connection.recv()
    return answer


async def attack(port: int, number: int, arrived: set[int]) -> None:
    """Keep one connection busy, and come back when it is closed."""
    behave = ATTACKS[number % len(ATTACKS)]
    receives = 2_048 if behave is read_nothing else None
    while True:
        with suppress(OSError, TimeoutError):
            async with connected(port, receives=receives) as client:
                arrived.add(number)
                await behave(client, number)
        await asyncio.sleep(random.uniform(0.5, 1.5) * _COMES_BACK_AFTER_S)  # noqa: S311 - no secret


async def serve_others(service: process.Running, took: list[float]) -> None:
    """One round of what must be served: a probe, a webhook, a member and an operator, each anew."""
    post = Post()
    server = FakeServer(FakeClock(SteadyClock().now()), KEYPAIR, post)
    server.join("lobby", f"person-{len(took)}")
    (*_, webhook) = post.take()

    async def timed(served: Awaitable[object]) -> object:
        began = time.monotonic()
        answer = await served
        took.append(time.monotonic() - began)
        return answer

    assert await timed(service.get("/healthz")) == 200
    assert await timed(service.deliver(webhook)) == 200
    member = service.call("GET", f"{STATUS}?roomName=lobby", auth=member_token("lobby"))
    assert (await timed(member)) == (200, "")
    assert await timed(service.get("/api/livekit/agents")) == 200


async def test_a_thousand_hostile_connections_keep_nobody_out(tmp_path: Path) -> None:
    async with (
        process.silent_livekit() as livekit_url,
        process.running(
            DATABASE_URL=str(tmp_path / "lifecycle.db"), LIVEKIT_URL=livekit_url, API_KEYS=API_KEY
        ) as service,
    ):
        # As on most machines.
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (1_024, 1_024))
        with besieged(service.port) as hostile:
            assert await answer_of(hostile) == "all have come"
            # They have all come at once; from here on they only keep on.
            assert await service.get("/healthz") == 200
            took: list[float] = []
            for _ in range(ROUNDS):
                async with asyncio.timeout(SERVED_WITHIN_S), service.anew() as fresh:
                    await serve_others(fresh, took)
            hostile.send("enough")
            assert await answer_of(hostile) == 0
        print(f"{len(took)} served, at worst within {max(took):.2f} s")  # noqa: T201
