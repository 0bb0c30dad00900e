"""The doctor on addresses: which of them browsers reach, and what `HOST` listens on."""

from dataclasses import replace

import aiohttp
import pytest

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, Verdict
from app.cli.doctor.livekit import check_features
from app.cli.doctor.network import check_browsers, check_port
from app.config.settings import load_config
from devstack.ports import free_port
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.harness import KEYPAIR


class DoctorsLiveKit(FakeLiveKit):
    async def delete_room(self, room_name: str) -> bool:
        raise NotImplementedError(room_name)


@pytest.fixture
async def context() -> CheckContext:
    clock = FakeClock()
    environ = {
        "LIVEKIT_URL": "ws://livekit:7880",
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "AGENT_NAME": "agent",
    }
    livekit = DoctorsLiveKit(FakeServer(clock, KEYPAIR, lambda _webhook: None), clock)
    async with aiohttp.ClientSession() as http:
        return CheckContext(
            config=load_config(environ), environ=environ, http=http, livekit=livekit, clock=clock, wait_s=1
        )


async def finding(found: Findings) -> Finding:
    (one,) = [one async for one in found]
    return one


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("ws://livekit:7880", Verdict.WARNING),
        ("ws://livekit.railway.internal:7880", Verdict.WARNING),
        ("ws://livekit.default.svc.cluster.local", Verdict.WARNING),
        ("ws://host.docker.internal:7880", Verdict.WARNING),
        ("ws://0.0.0.0:7880", Verdict.WARNING),
        ("ws://[::]:7880", Verdict.WARNING),
        ("wss://example.livekit.cloud", Verdict.OK),
        ("ws://localhost:7880", Verdict.OK),
        ("ws://127.0.0.1:7880", Verdict.OK),
        ("ws://[::1]:7880", Verdict.OK),
        ("ws://192.168.1.7:7880", Verdict.OK),
    ],
)
async def test_a_name_that_browsers_cannot_reach_is_a_warning(
    context: CheckContext, url: str, verdict: Verdict
) -> None:
    own = replace(context, config=replace(context.config, livekit_url=url))
    assert (await finding(check_browsers(own))).verdict is verdict
    public = replace(own, config=replace(own.config, livekit_public_url="wss://lk.example.com"))
    assert (await finding(check_browsers(public))).message == (
        "browsers are sent to LiveKit at wss://lk.example.com"
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("::", "[::]:{port} is free, for IPv4 and IPv6"),
        ("127.0.0.1", "127.0.0.1:{port} is free"),
        ("::1", "[::1]:{port} is free"),
    ],
)
async def test_the_port_is_tried_as_the_service_will_use_it(
    context: CheckContext, host: str, message: str
) -> None:
    port = free_port()
    own = replace(context, config=replace(context.config, host=host, port=port))
    assert (await finding(check_port(own))).message == message.format(port=port)


async def test_a_livekit_without_probes_is_a_warning(context: CheckContext) -> None:
    assert (await finding(check_features(context))).verdict is Verdict.OK
    assert isinstance(context.livekit, FakeLiveKit)
    context.livekit.server.has_probe = False
    old = await finding(check_features(context))
    assert old.verdict is Verdict.WARNING
    assert "1.9.2" in old.message
