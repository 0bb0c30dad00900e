"""The two stages: the fake LiveKit, and the real stack."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from livekit import api

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.livekit.client import LiveKitClient
from contract.stage import HELPER_AGENT, PLAIN_AGENT, FakeStage, RealStage, Stage
from devstack.chaos.fork_server import ForkServer
from devstack.livekit_server import LiveKitServer
from devstack.relay import WebhookRelay
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.server import FakeServer

_KEYPAIR = Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters")


@pytest.fixture
def fake_stage() -> FakeStage:
    clock, post = FakeClock(), Post()
    server = FakeServer(clock, _KEYPAIR, post)
    server.start_worker(HELPER_AGENT)
    server.start_worker(PLAIN_AGENT, helper=False)
    return FakeStage(
        livekit=FakeLiveKit(server, clock), room="room", keypair=_KEYPAIR, clock=clock, post=post
    )


@pytest.fixture
async def real_client(livekit_server: LiveKitServer) -> AsyncIterator[LiveKitClient]:
    keypair = Keypair(key=livekit_server.api_key, secret=livekit_server.api_secret)
    async with aiohttp.ClientSession() as session:
        yield LiveKitClient(session, livekit_server.url, keypair, SteadyClock())


@pytest.fixture
async def real_stage(
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    relay: WebhookRelay,
    real_client: LiveKitClient,
    living_workers: object,  # noqa: ARG001 - it serves the stage's agents
    worker_fork_server: ForkServer,
    tmp_path: Path,
) -> AsyncIterator[RealStage]:
    stage = RealStage(
        livekit=real_client,
        room=f"room-{uuid.uuid4().hex[:12]}",
        keypair=Keypair(key=livekit_server.api_key, secret=livekit_server.api_secret),
        server=livekit_server,
        relay=relay,
        api=livekit_api,
        folder=tmp_path,
        fork_server=worker_fork_server,
    )
    yield stage
    await stage.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def stage(request: pytest.FixtureRequest) -> Stage:
    found: Stage = request.getfixturevalue(f"{request.param}_stage")
    return found
