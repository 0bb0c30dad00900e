"""A real Chromium before the real stack, with one service at a time."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from devstack.callers import Caller
from devstack.chaos.fork_server import ForkServer
from devstack.demo_assets import ensure_demo_assets
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.workers import Worker, WorkerKind

#: Of several such switches Chromium obeys the last: these are Playwright's, and the address bar's popups,
#: whose page takes every Chromium half a second of a processor.
_WITHOUT = (
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding"),
    *("PreconnectToSearch", "ThirdPartyStoragePartitioning"),
    *("WebUIOmniboxAimPopup", "WebUIOmniboxPopup"),
)
_ARGUMENTS = (
    f"--disable-features={','.join(_WITHOUT)}",
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--use-fake-device-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

# The demo page asks for its agent's state every 3 s: Playwright's own 5 s are short on a slow machine.
expect.set_options(timeout=15_000)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Here and not in a fixture, so that all skips are told in one line."""
    if shutil.which("chromium"):
        return
    hint = "no chromium on PATH; get it with: apt-get install chromium"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(hint, pytrace=False)
    pytest.skip(hint)


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
    """Where each test's service listens."""
    return free_port()


class Services:
    """One service at a time, on one port; kept for the next test that wants the same."""

    def __init__(
        self, server: LiveKitServer, fork_server: ForkServer, port: int, folder: Path, children: list[Child]
    ) -> None:
        self.webhook_url = f"http://{LOOPBACK}:{port}/api/livekit/webhook"
        self._server = server
        self._fork_server = fork_server
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
            spawn=self._fork_server.spawn,
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


@pytest.fixture(scope="module")
def services(
    livekit_server: LiveKitServer,
    fork_server: ForkServer,
    service_port: int,
    tmp_path_factory: pytest.TempPathFactory,
    children: list[Child],
) -> Iterator[Services]:
    """Of one file only: the services of other tests are not to share their rooms with one of these."""
    services = Services(
        livekit_server, fork_server, service_port, tmp_path_factory.mktemp("services"), children
    )
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
    living_workers: dict[WorkerKind, Worker],
    worker_kind: WorkerKind,
    settings: dict[str, str],
    relay: WebhookRelay,
    demo_assets: None,  # noqa: ARG001 - the service serves them
) -> Service:
    usual = {
        "AGENT_NAME": living_workers[worker_kind].agent_name,
        "LIFECYCLE_ENV": "dev",
        # All tests come from one address.
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    relay.targets.append(services.webhook_url)
    return await asyncio.to_thread(services.give, usual | settings)


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[Caller]:
    async with Caller(service.base_url) as caller:
        yield caller


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
    # Without animations, which cost a machine without a graphics card a third of its time.
    context = await browser.new_context(permissions=["microphone"], reduced_motion="reduce")
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
