"""Posting alerts to a real server that fails in every way, without effect on the service."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from app import tasks
from app.alerts.model import Alert, AlertChange
from app.alerts.notifier import QUEUE_LIMIT, AlertNotifier
from app.lifecycle.mode import Mode
from app.logs.redaction import Redaction
from app.metrics.counters import Counters
from integration.harness import BOUND_S, until

SECRET_PATH = "/services/T000/B000/a-secret-nobody-may-see"
SINCE = 1_800_000_000_000_000
RAISED = AlertChange(
    alert=Alert(
        name="no_worker",
        summary="People are waiting for an agent that no worker provides, in 1 room.",
        advice="Start a worker <now> & look.",
        since_at=SINCE,
        rooms=("alice's room",),
    )
)
OVER = AlertChange(alert=RAISED.alert, resolved_at=SINCE + 90_000_000)

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def take(_: web.Request) -> web.StreamResponse:
    return web.Response()


def answer(status: int, **headers: str) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return behave


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@dataclass
class Receiver:
    """Behaves as scripted, post by post, and then accepts everything."""

    url: str = ""
    script: list[Behaviour] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.bodies.append(json.loads(await request.read()))
        behave = self.script.pop(0) if self.script else take
        return await behave(request)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}{SECRET_PATH}"
    yield receiver
    await runner.cleanup()


@dataclass
class Office:
    post: AlertNotifier
    counters: Counters

    async def settled(self, **results: int) -> None:
        """Wait until so many posts have these results."""
        await until(lambda: all(self.counters.alert_posts[name] >= count for name, count in results.items()))
        assert self.counters.alert_posts == {"sent": 0, "failed": 0, "dropped": 0} | results


@pytest.fixture
def limit_s() -> float:
    """How long a receiver may take to answer: no healthy one takes so long."""
    return BOUND_S / 2


@pytest.fixture
async def office(receiver: Receiver, limit_s: float) -> AsyncIterator[Office]:
    counters = Counters(mode=Mode.ENFORCE)
    timeout = aiohttp.ClientTimeout(total=limit_s)
    post = AlertNotifier(receiver.url, "replica1", counters, str, first_wait_s=0, timeout=timeout)
    post.start()
    yield Office(post, counters)
    await post.close()


async def test_what_is_posted(office: Office, receiver: Receiver) -> None:
    office.post.send(RAISED)
    office.post.send(OVER)

    await office.settled(sent=2)
    raised, over = receiver.bodies
    assert raised == {
        "text": (
            "*Alert: no_worker* (replica1)\n"
            "People are waiting for an agent that no worker provides, in 1 room.\n"
            "Start a worker &lt;now&gt; &amp; look."
        ),
        "alert": "no_worker",
        "status": "raised",
        "summary": "People are waiting for an agent that no worker provides, in 1 room.",
        "advice": "Start a worker <now> & look.",
        "replica": "replica1",
        "since": "2027-01-15T08:00:00.000Z",
        "resolved": None,
        "rooms": ["alice's room"],
    }
    assert (over["status"], over["resolved"]) == ("resolved", "2027-01-15T08:01:30.000Z")
    assert over["text"].startswith("*Resolved: no_worker* (replica1)\n")


async def test_rooms_are_hashed_where_the_log_hashes_them(receiver: Receiver) -> None:
    hide = Redaction("dev-secret-of-at-least-32-characters").hide
    counters = Counters(mode=Mode.ENFORCE)
    post = AlertNotifier(receiver.url, "replica1", counters, hide)
    post.start()
    post.send(RAISED)
    await Office(post, counters).settled(sent=1)
    await post.close()

    assert receiver.bodies[0]["rooms"] == [hide("alice's room")]
    assert "alice" not in json.dumps(receiver.bodies)


@pytest.mark.parametrize(
    "ill", [answer(500), answer(503), answer(429), answer(408), reset], ids=lambda f: f.__qualname__
)
async def test_a_failing_receiver_is_retried(office: Office, receiver: Receiver, ill: Behaviour) -> None:
    receiver.script = [ill, ill]
    office.post.send(RAISED)

    await office.settled(sent=1)
    assert len(receiver.bodies) == 3


@pytest.mark.parametrize(
    ("ill", "reason"),
    [(answer(500), "HTTP 500"), (reset, "ServerDisconnectedError")],
    ids=["500", "reset"],
)
async def test_after_the_last_retry_the_next_alert_is_posted(
    office: Office, receiver: Receiver, ill: Behaviour, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = [ill] * 5
    office.post.send(RAISED)
    office.post.send(OVER)

    await office.settled(failed=1, sent=1)
    assert [body["status"] for body in receiver.bodies] == ["raised"] * 5 + ["resolved"]
    (record,) = [one for one in caplog.records if one.message == "An alert could not be posted"]
    assert vars(record)["reason"].startswith(reason.removesuffix("Error"))


@pytest.mark.parametrize("limit_s", [0.5])
async def test_a_receiver_that_hangs_is_retried(office: Office, receiver: Receiver) -> None:
    receiver.script = [hang]
    office.post.send(RAISED)

    await office.settled(sent=1)
    assert len(receiver.bodies) > 1


@pytest.mark.parametrize("limit_s", [0.5])
async def test_a_receiver_that_hangs_costs_one_alert(
    office: Office, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = [hang] * 100
    office.post.send(RAISED)
    await office.settled(failed=1)
    receiver.script.clear()
    office.post.send(OVER)

    await office.settled(failed=1, sent=1)
    assert receiver.bodies[-1]["status"] == "resolved"
    (record,) = [one for one in caplog.records if one.message == "An alert could not be posted"]
    assert "Timeout" in vars(record)["reason"]
    assert any(vars(one).get("stamina.retry_num") == 4 for one in caplog.records)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_rejection_is_not_retried(office: Office, receiver: Receiver, status: int) -> None:
    receiver.script = [answer(status)]
    office.post.send(RAISED)

    await office.settled(failed=1)
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(office: Office, receiver: Receiver, status: int) -> None:
    """The receiver could send us to an address that only we can reach."""
    receiver.script = [answer(status, Location="/latest/meta-data")]
    office.post.send(RAISED)

    await office.settled(failed=1)
    assert receiver.paths == [SECRET_PATH]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a-secret-nobody-may-see",
        "http://[bad/a-secret-nobody-may-see",
        "http://name.invalid/a-secret-nobody-may-see",
    ],
)
async def test_the_url_is_in_no_log_line(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The machine's own resolver may take many seconds to say so.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    caplog.set_level(logging.DEBUG)
    counters = Counters(mode=Mode.ENFORCE)
    post = AlertNotifier(url, "replica1", counters, str, first_wait_s=0)
    post.start()
    post.send(RAISED)
    await Office(post, counters).settled(failed=1)
    await post.close()

    lines = [logging.Formatter().format(record) + str(vars(record)) for record in caplog.records]
    assert any("An alert could not be posted" in line for line in lines)
    assert not [line for line in lines if "a-secret" in line]


async def test_a_full_queue_drops_alerts_without_blocking(
    office: Office, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = [hang]
    office.post.send(RAISED)
    await until(lambda: bool(receiver.bodies))
    for _ in range(QUEUE_LIMIT + 3):
        office.post.send(OVER)

    assert office.counters.alert_posts["dropped"] == 3
    assert caplog.text.count("Too many alerts are waiting to be posted") == 3


async def test_an_unexpected_error_costs_one_post_and_the_log_has_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_FIRST_DELAY_S", 0.01)
    counters = Counters(mode=Mode.ENFORCE)
    slips = [KeyError("a slip")]

    def hide(room: str) -> str:
        if slips:
            raise slips.pop()
        return room

    post = AlertNotifier(receiver.url, "replica1", counters, hide, first_wait_s=0)
    post.start()
    post.send(RAISED)
    post.send(RAISED)
    await Office(post, counters).settled(sent=1)
    await post.close()

    assert [vars(record).get("task") for record in caplog.records] == ["alert post"]


async def test_without_a_url_nothing_is_queued() -> None:
    counters = Counters(mode=Mode.ENFORCE)
    post = AlertNotifier(None, "replica1", counters, str)
    post.start()
    for _ in range(2 * QUEUE_LIMIT):
        post.send(RAISED)
    await post.close()

    assert counters.alert_posts == {"sent": 0, "failed": 0, "dropped": 0}


async def test_a_stop_waits_a_bounded_time_for_the_receiver(receiver: Receiver) -> None:
    receiver.script = [hang]
    counters = Counters(mode=Mode.ENFORCE)
    post = AlertNotifier(receiver.url, "replica1", counters, str)
    post.start()
    post.send(RAISED)
    await until(lambda: bool(receiver.bodies))
    async with asyncio.timeout(BOUND_S):
        await post.close()


async def test_an_alert_sent_right_before_a_stop_is_posted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.alerts.notifier._GRACE_S", BOUND_S)
    counters = Counters(mode=Mode.ENFORCE)
    post = AlertNotifier(receiver.url, "replica1", counters, str)
    post.start()
    post.send(RAISED)
    await post.close()

    assert [body["status"] for body in receiver.bodies] == ["raised"]
