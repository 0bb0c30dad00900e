"""The doctor on the real stack: each fault is reported, and no room of its own is left."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from livekit import api

from app.cli.doctor import checks
from app.cli.doctor.findings import Finding, Verdict
from app.clock import Clock, SteadyClock
from devstack.fixture_types import StartService, StartWorker
from devstack.livekit_server import LiveKitServer
from devstack.relay import Mode, WebhookRelay
from devstack.service import API_KEY, Service
from devstack.workers import Worker

pytestmark = pytest.mark.real

_BOUND_S = 60.0

Findings = dict[str, list[Finding]]


@pytest.fixture
def environ(livekit_server: LiveKitServer) -> dict[str, str]:
    """The environment of a service that is not running."""
    return {
        "LIVEKIT_URL": livekit_server.url,
        "LIVEKIT_API_KEY": livekit_server.api_key,
        "LIVEKIT_API_SECRET": livekit_server.api_secret,
        "AGENT_NAME": "reusable-agent",
        "API_KEYS": API_KEY,
    }


@pytest.fixture(autouse=True)
async def _no_room_is_left(livekit_api: api.LiveKitAPI) -> AsyncIterator[None]:
    yield
    assert await scratch_rooms(livekit_api) == []


def running(environ: dict[str, str], service: Service) -> dict[str, str]:
    """The environment of a running service."""
    return environ | {
        "HOST": "127.0.0.1",
        "PORT": str(service.port),
        "DATABASE_URL": str(service.database),
        "PUBLIC_URL": service.base_url,
    }


async def scratch_rooms(livekit_api: api.LiveKitAPI) -> list[str]:
    listed = await livekit_api.room.list_rooms(api.ListRoomsRequest())
    return [room.name for room in listed.rooms if room.name.startswith("doctor-")]


async def examine(
    environ: dict[str, str], *only: str, clock: Clock | None = None, wait_s: float = 15
) -> Findings:
    skip = [name for name in checks.NAMES if name not in only] if only else []
    found: Findings = {}
    async for check, finding in checks.examine(environ, clock or SteadyClock(), skip=skip, wait_s=wait_s):
        if check not in skip:
            found.setdefault(check, []).append(finding)
    return found


def fault_of(found: Findings, check: str) -> str:
    """The only fault, and its fix."""
    faults = {name: one for name, listed in found.items() for one in listed if one.verdict is Verdict.FAULT}
    assert list(faults) == [check], found
    return f"{faults[check].message} -> {faults[check].fix}"


async def test_a_working_stack_has_no_fault(
    environ: dict[str, str], start_service: StartService, reusable_worker: Worker
) -> None:
    service = await start_service(agent_name=reusable_worker.agent_name)
    found = await examine(running(environ, service))

    assert {one.verdict for listed in found.values() for one in listed} == {Verdict.OK}, found
    assert list(found) == list(checks.NAMES)
    assert found["sharing"][0].message.endswith(f"open ({service.child.pid}): the service is running")
    assert "the service is running" in found["port"][0].message
    assert "reports its health" in found["worker"][0].message


async def test_a_key_of_another_project(environ: dict[str, str]) -> None:
    found = await examine(environ | {"LIVEKIT_API_KEY": "APIofAnother"}, "livekit", "clock", "keys", "worker")
    assert "LiveKit does not know LIVEKIT_API_KEY" in fault_of(found, "keys")


async def test_a_secret_of_another_key(environ: dict[str, str]) -> None:
    secret = "another-secret-of-at-least-32-characters"
    found = await examine(environ | {"LIVEKIT_API_SECRET": secret}, "livekit", "clock", "keys", "worker")
    said = fault_of(found, "keys")
    assert "LIVEKIT_API_SECRET is not its secret" in said
    assert secret not in str(found)


async def test_a_clock_of_yesterday(environ: dict[str, str]) -> None:
    class Yesterday(SteadyClock):
        def now(self) -> int:
            return super().now() - 86_400_000_000

    found = await examine(environ, "livekit", "clock", "keys", clock=Yesterday())
    assert re.search(r"86\d{3} s behind LiveKit's", fault_of(found, "clock"))


async def test_rooms_that_close_before_the_ttl_are_a_warning(
    environ: dict[str, str], livekit_api: api.LiveKitAPI, room_name: str
) -> None:
    """The fixture's room closes after 60 s."""
    [finding] = (await examine(environ, "rooms"))["rooms"]
    assert finding.verdict is Verdict.WARNING
    assert room_name in finding.message
    assert '"departureTimeout": 360' in str(finding.fix)
    [hidden] = (await examine(environ | {"LOG_REDACT": "true"}, "rooms"))["rooms"]
    assert room_name not in hidden.message
    assert await livekit_api.room.list_rooms(api.ListRoomsRequest(names=[room_name]))


async def test_a_livekit_that_posts_no_webhooks(
    environ: dict[str, str], start_service: StartService, relay: WebhookRelay
) -> None:
    service = await start_service()
    relay.mode = Mode.DROP
    said = fault_of(await examine(running(environ, service), "delivery"), "delivery")
    assert "no webhook from LiveKit arrived" in said
    assert f"urls: [{service.base_url}/api/livekit/webhook]" in said


async def test_webhooks_that_are_signed_with_another_key(
    environ: dict[str, str], start_service: StartService
) -> None:
    """The service is another project's: it rejects the webhooks of LiveKit and of the doctor."""
    service = await start_service(
        ready=False, LIVEKIT_API_KEY="other", LIVEKIT_API_SECRET="other-secret-of-at-least-32-characters"
    )
    await asyncio.to_thread(service.child.wait_for_line, "Listening", timeout_s=_BOUND_S)
    settings = running(environ, service)
    assert "rejected a webhook with this key" in fault_of(await examine(settings, "webhook"), "webhook")
    said = fault_of(await examine(settings, "delivery"), "delivery")
    assert "signed with a key that the service does not know" in said


async def test_an_agent_name_without_a_worker(environ: dict[str, str], plain_worker: Worker) -> None:
    """The other name has a worker, without the helper."""
    wrong = plain_worker.agent_name.upper()
    environ["AGENT_NAME"] = f"{wrong},{plain_worker.agent_name}"
    found = await examine(environ, "worker", wait_s=12)
    assert [one.verdict for one in found["worker"]] == [Verdict.FAULT, Verdict.OK]
    assert f"no worker is registered as {wrong}" in fault_of(found, "worker")
    assert "replaced, not reused" in found["worker"][1].message


async def test_a_worker_without_a_name(environ: dict[str, str], start_worker: StartWorker) -> None:
    await start_worker("")
    found = await examine(environ | {"AGENT_NAME": "somebody"}, "worker", wait_s=12)
    said = fault_of(found, "worker")
    assert "but one without a name" in said
    assert '@server.rtc_session(agent_name="somebody")' in said


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """If a shell runs the tests in the background, they and their children ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
async def test_an_interrupted_doctor_leaves_no_room(
    environ: dict[str, str], livekit_api: api.LiveKitAPI
) -> None:
    """Interrupted by Ctrl-C and by an orchestrator."""
    doctors = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "doctor", "--wait", "60"),
            env=os.environ | environ | {"AGENT_NAME": "nobody-at-all"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(_BOUND_S):
            while len(await scratch_rooms(livekit_api)) < len(doctors):
                early = [doctor for doctor in doctors if doctor.returncode is not None]
                assert not early, [await doctor.communicate() for doctor in early]
                await asyncio.sleep(0.05)
            for doctor, number in zip(doctors, (signal.SIGINT, signal.SIGTERM), strict=True):
                doctor.send_signal(number)
            told = [(await doctor.communicate())[0] for doctor in doctors]
    finally:
        for doctor in doctors:
            if doctor.returncode is None:
                doctor.kill()
                await doctor.wait()
    assert [doctor.returncode for doctor in doctors] == [130, 143], told
    assert not any(b"Traceback" in one for one in told)
