"""A LiveKit restart's flood: ten thousand webhooks at once, from two hundred connections."""

import asyncio
import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from app.livekit.webhooks import stored_id
from devstack.chaos.databases import Tables
from devstack.livekit_server import LiveKitServer
from devstack.service import API_KEY, Service

pytestmark = pytest.mark.real

ROOMS = 2_000
CONNECTIONS = 200
#: What ten thousand of them may cost, however long it takes to store them.
GROWTH_KIB = 96 * 1024
#: Its calls to LiveKit have limits of some seconds, which a slow machine may need for its webhooks.
ASKS_LIVEKIT = "/api/livekit/dispatch-agent"
#: How often each of the other endpoints has answered at least before the flood is over.
ROUNDS_OF_OTHERS = 2


def events() -> Iterator[dict[str, Any]]:
    """Five for each room: two people are in, one of them leaves, and it closes."""
    now = int(time.time())
    for number in range(ROOMS):
        room = {
            "sid": f"RM_flood{number:06d}",
            "name": f"flood-{number}",
            "emptyTimeout": 300,
            "departureTimeout": 20,
            "creationTime": str(now),
            "creationTimeMs": str(now * 1_000),
            "turnPassword": "not for anybody to keep",
            "enabledCodecs": [{"mime": "audio/opus"}, {"mime": "video/VP8"}, {"mime": "video/H264"}],
        }
        people = [
            {
                "sid": f"PA_flood{number:06d}{letter}",
                "identity": f"person {letter} of {number}",
                "name": f"Person {letter.upper()}",
                "state": "ACTIVE",
                "joinedAt": str(now),
                "joinedAtMs": str(now * 1_000),
                "permission": {"canSubscribe": True, "canPublish": True, "canPublishData": True},
            }
            for letter in "ab"
        ]
        gone = people[0] | {"state": "DISCONNECTED", "disconnectReason": "SERVER_SHUTDOWN"}
        for order, (event, participant) in enumerate(
            [
                ("room_started", None),
                ("participant_joined", people[0]),
                ("participant_joined", people[1]),
                ("participant_left", gone),
                ("room_finished", None),
            ]
        ):
            body: dict[str, Any] = {
                "event": event,
                "id": f"EV_flood{number:06d}{order}",
                "createdAt": str(now),
                "room": room,
            }
            yield body | ({"participant": participant} if participant else {})


def signed(server: LiveKitServer, body: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    claims = {"iss": server.api_key, "exp": int(time.time()) + 300, "sha256": digest}
    token = jwt.encode(claims, server.api_secret, algorithm="HS256")
    return {"Authorization": token, "Content-Type": "application/webhook+json"}


def memory_kib(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


async def send_all(service: Service, webhooks: list[tuple[str, bytes, dict[str, str]]]) -> dict[str, int]:
    """The status of each, by its id."""
    waiting = iter(webhooks)
    statuses: dict[str, int] = {}

    async def send_on(session: aiohttp.ClientSession) -> None:
        for event_id, body, headers in waiting:
            async with session.post(service.webhook_url, data=body, headers=headers) as answer:
                statuses[event_id] = answer.status

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(send_on(session) for _ in range(CONNECTIONS)))
    return statuses


async def ask_others(service: Service, over: asyncio.Event) -> dict[str, list[float]]:
    """How long each of the other endpoints takes, again and again, until it is over."""
    took: dict[str, list[float]] = {}
    in_the_flood, beside_it = {"roomName": "flood-1"}, {"roomName": "beside-the-flood"}
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/metrics", {}),
        ("GET", "/api/livekit/agents", {}),
        ("GET", "/api/livekit/agent-status", {"params": in_the_flood}),
        ("POST", "/api/livekit/token", {"json": {"room_name": "beside-the-flood"}}),
        ("POST", "/api/livekit/dispatch-agent", {"json": beside_it}),
        ("DELETE", "/api/livekit/dispatch-agent", {"params": {"roomName": "nobodys"}}),
    )
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(service.base_url, headers=headers) as session:
        while not over.is_set():
            for method, path, arguments in calls:
                began = time.monotonic()
                async with session.request(method, path, **arguments) as answer:
                    text = await answer.text()
                is_late = answer.status == 504 and json.loads(text)["code"] == "livekit_timeout"
                assert answer.status in (200, 201) or (path == ASKS_LIVEKIT and is_late), (method, path, text)
                took.setdefault(f"{method} {path}", []).append(time.monotonic() - began)
    return took


async def test_ten_thousand_webhooks_at_once(livekit_server: LiveKitServer, service: Service) -> None:
    webhooks = []
    for event in events():
        body = json.dumps(event).encode()
        webhooks.append((stored_id(int(event["createdAt"]), event["id"]), body, signed(livekit_server, body)))
    assert len(webhooks) == 10_000
    before_kib = memory_kib(service.child.pid, "VmRSS")
    over = asyncio.Event()
    others = asyncio.create_task(ask_others(service, over))

    statuses = await send_all(service, webhooks)

    over.set()
    took = await others
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        aiohttp.ClientSession(service.base_url, headers=headers) as session,
        session.post(ASKS_LIVEKIT, json={"roomName": "after-the-flood"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
    peak_kib = memory_kib(service.child.pid, "VmHWM")
    counts = Counter(statuses.values())
    assert set(counts) <= {200, 503}, counts
    assert counts[200] > 9_000, counts
    acknowledged = [event_id for event_id, status in statuses.items() if status == 200]
    assert await Tables(f"sqlite:///{service.database}").missing_events(acknowledged) == []
    assert peak_kib - before_kib < GROWTH_KIB, f"{before_kib} KiB before, {peak_kib} KiB at most"
    worst = {path: max(times) for path, times in took.items()}
    print(f"{counts}, {before_kib} KiB before, {peak_kib} KiB at most, others at worst: {worst}")  # noqa: T201
    assert all(len(times) >= ROUNDS_OF_OTHERS for times in took.values()), worst
