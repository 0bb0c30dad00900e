"""A real Chromium before the real stack: LiveKit and two workers for the run, and one service at a time."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from livekit import api
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from devstack.callers import Caller
from devstack.demo_assets import ensure_demo_assets
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import free_port
from devstack.processes import Child
from devstack.service import Service
from devstack.truth import RoomTruth
from devstack.workers import Worker, WorkerKind

_CHILDREN = pytest.StashKey[list[Child]]()
_ARGUMENTS = (
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--use-fake-device-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CHILDREN] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Here and not in a fixture, so that all skips are told in one line."""
    if shutil.which("chromium"):
        return
    hint = "no chromium on PATH; get it with: apt-get install chromium"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(hint, pytrace=False)
    pytest.skip(hint)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        for child in item.config.stash[_CHILDREN]:
            report.sections.append((f"log of {child.name}", child.tail()))
    return report


@pytest.fixture(scope="session")
def children(request: pytest.FixtureRequest) -> list[Child]:
    """Whose logs a failing test shows."""
    return request.config.stash[_CHILDREN]


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    assert path, "the hook above has looked"
    return path


@pytest.fixture(scope="session")
def demo_assets() -> None:
    """The demo page, built from its sources of now."""
    ensure_demo_assets()


@pytest.fixture(scope="session")
def service_port() -> int:
    """Where each test's service listens; LiveKit posts its webhooks there."""
    return free_port()


@pytest.fixture(scope="session")
def livekit_server(
    tmp_path_factory: pytest.TempPathFactory,
    service_port: int,
    children: list[Child],
) -> Iterator[LiveKitServer]:
    server = LiveKitServer(
        find_or_build(),
        tmp_path_factory.mktemp("livekit"),
        webhook_urls=[f"http://127.0.0.1:{service_port}/api/livekit/webhook"],
    )
    children.append(server.child)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def workers(
    livekit_server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory, children: list[Child]
) -> Iterator[dict[WorkerKind, Worker]]:
    """Both kinds, started side by side, since each needs seconds to import itself."""
    folder = tmp_path_factory.mktemp("workers")
    workers = {
        kind: Worker(livekit_server, folder, agent_name=f"{kind.name.lower()}-agent", kind=kind)
        for kind in (WorkerKind.REUSABLE, WorkerKind.PLAIN)
    }
    for worker in workers.values():
        children.append(worker.child)
        worker.start(wait=False)
    for worker in workers.values():
        worker.wait_until_registered()
    yield workers
    for worker in workers.values():
        worker.stop()


class Services:
    """One service at a time, where LiveKit posts its webhooks; kept for the next test that wants the same."""

    def __init__(self, server: LiveKitServer, port: int, folder: Path, children: list[Child]) -> None:
        self._server = server
        self._port = port
        self._folder = folder
        self._children = children
        self._service: Service | None = None
        self._settings: dict[str, str] = {}

    def give(self, settings: dict[str, str]) -> Service:
        if self._service and self._service.child.running and settings == self._settings:
            return self._service
        self.stop()
        service = Service(
            self._server,
            self._folder / uuid.uuid4().hex[:8],
            agent_name=settings["AGENT_NAME"],
            port=self._port,
            env=settings,
        )
        self._service, self._settings = service, settings
        self._children.append(service.child)
        service.start()
        return service

    def stop(self) -> None:
        if self._service:
            self._service.stop()
            self._children.remove(self._service.child)
            self._service = None


@pytest.fixture(scope="session")
def services(
    livekit_server: LiveKitServer,
    service_port: int,
    tmp_path_factory: pytest.TempPathFactory,
    children: list[Child],
) -> Iterator[Services]:
    services = Services(livekit_server, service_port, tmp_path_factory.mktemp("services"), children)
    yield services
    services.stop()


@pytest.fixture
def worker_kind() -> WorkerKind:
    """Which agent the service of a test is for; a test may parametrize it."""
    return WorkerKind.REUSABLE


@pytest.fixture
def settings() -> dict[str, str]:
    """What a test wants to be otherwise in the service's environment; it may parametrize it."""
    return {}


@pytest.fixture
async def service(
    services: Services,
    workers: dict[WorkerKind, Worker],
    worker_kind: WorkerKind,
    settings: dict[str, str],
    demo_assets: None,  # noqa: ARG001 - the service serves them
) -> Service:
    usual = {
        "AGENT_NAME": workers[worker_kind].agent_name,
        "LIFECYCLE_ENV": "dev",
        # All tests come from one address.
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    return await asyncio.to_thread(services.give, usual | settings)


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[Caller]:
    async with Caller(service.base_url) as caller:
        yield caller


@pytest.fixture
async def truth(livekit_server: LiveKitServer) -> AsyncIterator[RoomTruth]:
    """A room that does not exist yet, and what LiveKit itself says about it."""
    async with api.LiveKitAPI(
        livekit_server.http_url, livekit_server.api_key, livekit_server.api_secret
    ) as client:
        truth = RoomTruth(client, f"room-{uuid.uuid4().hex[:12]}")
        yield truth
        await truth.delete()


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(
    browser: Browser,
    service: Service,  # noqa: ARG001 - the tab closes before its service stops
) -> AsyncIterator[Page]:
    """A tab that may use the microphone; an uncaught error or a breach of the policy fails the test."""
    complaints: list[str] = []
    context = await browser.new_context(permissions=["microphone"])
    page = await context.new_page()

    def on_console(message: ConsoleMessage) -> None:
        # Other errors are livekit-client's, about channels that a refresh closes.
        if "Content Security Policy" in message.text:
            complaints.append(message.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", on_console)
    yield page
    await context.close()
    assert complaints == []
