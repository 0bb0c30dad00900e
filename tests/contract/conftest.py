"""The two stages; the real one has a LiveKit and two workers of its own for the run."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from livekit import api

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.livekit.client import LiveKitClient
from contract.stage import HELPER_AGENT, PLAIN_AGENT, FakeStage, RealStage, Stage
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.relay import WebhookRelay
from devstack.workers import Worker, WorkerKind
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.server import FakeServer

_KEYPAIR = Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters")


@pytest.fixture(scope="session")
def contract_relay_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def contract_server(
    tmp_path_factory: pytest.TempPathFactory, contract_relay_port: int
) -> Iterator[LiveKitServer]:
    server = LiveKitServer(
        find_or_build(),
        tmp_path_factory.mktemp("contract-livekit"),
        webhook_urls=[f"http://{LOOPBACK}:{contract_relay_port}/webhook"],
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def contract_workers(
    contract_server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Worker]]:
    folder = tmp_path_factory.mktemp("contract-workers")
    names = {HELPER_AGENT: WorkerKind.REUSABLE, PLAIN_AGENT: WorkerKind.PLAIN}
    workers = [Worker(contract_server, folder, agent_name=name, kind=kind) for name, kind in names.items()]
    for worker in workers:
        worker.start(wait=False)
    for worker in workers:
        worker.wait_until_registered()
    yield workers
    for worker in workers:
        worker.stop()


@pytest.fixture
def fake_stage() -> FakeStage:
    clock, post = FakeClock(), Post()
    server = FakeServer(clock, _KEYPAIR, post)
    server.start_worker(HELPER_AGENT)
    server.start_worker(PLAIN_AGENT, helper=False)
    return FakeStage(livekit=FakeLiveKit(server, clock), room="room", clock=clock, post=post)


@pytest.fixture
async def real_client(contract_server: LiveKitServer) -> AsyncIterator[LiveKitClient]:
    keypair = Keypair(key=contract_server.api_key, secret=contract_server.api_secret)
    async with aiohttp.ClientSession() as session:
        yield LiveKitClient(session, contract_server.url, keypair, SteadyClock())


@pytest.fixture
async def real_stage(
    contract_server: LiveKitServer,
    contract_workers: list[Worker],
    contract_relay_port: int,
    real_client: LiveKitClient,
    tmp_path: Path,
) -> AsyncIterator[RealStage]:
    for worker in contract_workers:
        worker.revive()
    relay = WebhookRelay(contract_relay_port)
    await relay.start()
    async with api.LiveKitAPI(
        contract_server.http_url, contract_server.api_key, contract_server.api_secret
    ) as client:
        stage = RealStage(
            livekit=real_client,
            room=f"room-{uuid.uuid4().hex[:12]}",
            server=contract_server,
            relay=relay,
            api=client,
            folder=tmp_path,
        )
        yield stage
        await stage.close()
    await relay.stop()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def stage(request: pytest.FixtureRequest) -> Stage:
    found: Stage = request.getfixturevalue(f"{request.param}_stage")
    return found
