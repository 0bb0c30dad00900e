"""A LiveKit and a worker for the run, and services behind bad weather for a test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from livekit import api

from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.truth import RoomTruth
from devstack.weather import Weather
from devstack.workers import Worker

AGENT = "weathered-agent"


@pytest.fixture(scope="session")
def chaos_relay_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, chaos_relay_port: int) -> Iterator[LiveKitServer]:
    server = LiveKitServer(
        find_or_build(),
        tmp_path_factory.mktemp("chaos-livekit"),
        webhook_urls=[f"http://{LOOPBACK}:{chaos_relay_port}/webhook"],
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def session_worker(server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(server, tmp_path_factory.mktemp("chaos-worker"), agent_name=AGENT)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
async def worker(session_worker: Worker) -> Worker:
    """It dies when a job is ended while its agent connects (see devstack/chaos/worker_watchdog.py)."""
    if not session_worker.child.running:
        await asyncio.to_thread(session_worker.start)
    return session_worker


@pytest.fixture
async def weather(server: LiveKitServer) -> AsyncIterator[Weather]:
    async with Weather(server.http_url) as weather:
        yield weather


@pytest.fixture
async def service(
    server: LiveKitServer, weather: Weather, chaos_relay_port: int, tmp_path: Path
) -> AsyncIterator[Service]:
    """A service that knows LiveKit by way of the weather only."""
    relay = WebhookRelay(chaos_relay_port)
    await relay.start()
    env = {"LIVEKIT_URL": weather.url, "AGENT_TTL_SECONDS": "20", "CLEANUP_INTERVAL_MS": "2000"}
    service = Service(server, tmp_path / "service", agent_name=AGENT, env=env)
    relay.targets.append(service.webhook_url)
    await asyncio.to_thread(service.start)
    yield service
    weather.clear_up()
    await asyncio.to_thread(service.stop)
    await relay.stop()


@pytest.fixture
async def livekit_api(server: LiveKitServer) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client:
        yield client


@pytest.fixture
def truth(livekit_api: api.LiveKitAPI) -> RoomTruth:
    """A room that does not exist yet; it ends with the server, since its agent may still be connecting."""
    return RoomTruth(livekit_api, f"room-{uuid.uuid4().hex[:12]}")
