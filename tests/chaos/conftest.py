"""A service behind bad weather, on the real stack."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.chaos.fork_server import ForkServer
from devstack.livekit_server import LiveKitServer
from devstack.processes import Child
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.weather import Weather
from devstack.workers import Worker


@pytest.fixture
async def weather(livekit_server: LiveKitServer) -> AsyncIterator[Weather]:
    async with Weather(livekit_server.http_url) as weather:
        yield weather


@pytest.fixture
async def service(
    livekit_server: LiveKitServer,
    fork_server: ForkServer,
    reusable_worker: Worker,
    weather: Weather,
    relay: WebhookRelay,
    tmp_path: Path,
    children: list[Child],
) -> AsyncIterator[Service]:
    """A service that knows LiveKit by way of the weather only."""
    env = {"LIVEKIT_URL": weather.url, "AGENT_TTL_SECONDS": "20", "CLEANUP_INTERVAL_MS": "2000"}
    service = Service(
        livekit_server,
        tmp_path / "service",
        agent_name=reusable_worker.agent_name,
        env=env,
        spawn=fork_server.spawn,
    )
    children.append(service.child)
    relay.targets.append(service.webhook_url)
    await asyncio.to_thread(service.start)
    yield service
    weather.clear_up()
    await asyncio.to_thread(service.stop)
    children.remove(service.child)
