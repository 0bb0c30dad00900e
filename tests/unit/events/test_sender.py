"""The form and the signature of what is sent, verified by Standard Webhooks' own package."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from app.clock import to_iso
from app.config.event_endpoints import EventEndpoint, event_endpoints
from app.events.sender import Sender
from app.lifecycle import Dispatch, State
from app.state.changes import Transition
from app.state.deliveries import Attempt, Delivery
from app.state.events import LoggedEvent, event_rows

NEW, OLD, OTHER = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o", b"x"))
NOW = 1_700_000_000_123_456
DISPATCH = Dispatch(
    id="row",
    room_name="room \u2603",
    room_sid="RM_1",
    agent_name="agent",
    state=State.CREATING,
    created_at=NOW,
    last_activity_at=NOW,
    ttl_expires_at=NOW + 300_000_000,
)


def event() -> LoggedEvent:
    made = Transition(before=None, after=DISPATCH, event="intent")
    ((message_id, at, topic, room_name, data),) = event_rows([made], NOW, lambda: "1f")
    return LoggedEvent(7, message_id, topic, at, room_name, data)


class Receiver:
    """Answers as told; keeps what came."""

    def __init__(self) -> None:
        self.answer: Callable[[], web.StreamResponse] = lambda: web.Response(status=204)
        self.came: list[tuple[bytes, dict[str, str]]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.came.append((await request.read(), dict(request.headers)))
        return self.answer()

    @property
    def endpoint(self) -> EventEndpoint:
        return event_endpoints(f"{self.url}#{NEW}#{OLD}")[0]


@pytest.fixture
async def receiver(aiohttp_server: Callable[[web.Application], Awaitable[Any]]) -> Receiver:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/hook", receiver.take)
    server = await aiohttp_server(app)
    receiver.url = str(server.make_url("/hook"))
    return receiver


@pytest.fixture
async def sender(receiver: Receiver) -> AsyncIterator[Sender]:
    sender = Sender([receiver.endpoint], timeout=aiohttp.ClientTimeout(total=30))
    yield sender
    await sender.close()


async def sent(sender: Sender, receiver: Receiver) -> Attempt:
    return await sender.send(Delivery(receiver.endpoint.name, event()))


async def test_the_body_has_the_form_of_standard_webhooks(sender: Sender, receiver: Receiver) -> None:
    assert (await sent(sender, receiver)).error is None

    ((body, headers),) = receiver.came
    assert json.loads(body) == {
        "type": "agent.requested",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "data": {
            "position": 7,
            "roomName": "room \u2603",
            "roomSid": "RM_1",
            "agentName": "agent",
            "intentId": "row",
            "dispatchId": None,
            "replaces": None,
            "state": "creating",
            "reason": None,
            "participantCount": 0,
            "agentIdentity": None,
            "attempt": 1,
            "deployment": "",
            "ttlExpiresAt": to_iso(NOW + 300_000_000),
            "sessionEndsAt": None,
        },
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == "evt_1f"


@pytest.mark.parametrize("secret", [NEW, OLD])
async def test_each_secret_verifies_it(sender: Sender, receiver: Receiver, secret: str) -> None:
    await sent(sender, receiver)
    ((body, headers),) = receiver.came
    assert Webhook(secret).verify(body, headers)["type"] == "agent.requested"


async def test_neither_another_secret_nor_another_body_verifies(sender: Sender, receiver: Receiver) -> None:
    await sent(sender, receiver)
    ((body, headers),) = receiver.came
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body.replace(b"agent.requested", b"agent.ready"), headers)


async def test_the_time_of_the_signature_is_that_of_the_try(receiver: Receiver) -> None:
    """Receivers reject what is older than minutes; an event may be a day old."""
    sender = Sender([receiver.endpoint], wall=lambda: datetime.fromtimestamp(1_800_000_000, UTC))
    await sent(sender, receiver)
    await sender.close()
    assert receiver.came[0][1]["webhook-timestamp"] == "1800000000"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, (None, None, False)),
        (202, {}, (None, None, False)),
        (302, {"Location": "/hook"}, ("HTTP 302", None, False)),
        (400, {"Retry-After": "9"}, ("HTTP 400", None, False)),
        (410, {}, ("HTTP 410", None, True)),
        (429, {"Retry-After": "90"}, ("HTTP 429", 90_000_000, False)),
        (503, {"Retry-After": " 7 "}, ("HTTP 503", 7_000_000, False)),
        (503, {"Retry-After": "999999999"}, ("HTTP 503", 3_600_000_000, False)),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, ("HTTP 503", None, False)),
        (503, {"Retry-After": "-1"}, ("HTTP 503", None, False)),
    ],
)
async def test_an_answer_is_read(
    sender: Sender,
    receiver: Receiver,
    status: int,
    headers: dict[str, str],
    expected: tuple[str | None, int | None, bool],
) -> None:
    receiver.answer = lambda: web.Response(status=status, headers=headers)
    attempt = await sent(sender, receiver)
    assert (attempt.error, attempt.retry_after_us, attempt.is_gone) == expected
    # A redirect is not followed.
    assert len(receiver.came) == 1
    assert attempt.error is None or 0.8 <= attempt.jitter <= 1.2


async def test_an_error_is_named_by_its_type_alone(unused_tcp_port: int) -> None:
    (closed,) = event_endpoints(f"http://127.0.0.1:{unused_tcp_port}/a-path?a-secret#{NEW}")
    lonely = Sender([closed])
    attempt = await lonely.send(Delivery(closed.name, event()))
    await lonely.close()
    assert attempt.error == "ClientConnectorError"
