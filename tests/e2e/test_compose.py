"""compose.yaml's LiveKit, without docker: it takes its configuration, and posts where that says."""

import os
import socket
from pathlib import Path

import aiohttp
import pytest
import yaml

from app.clock import SteadyClock
from app.config.settings import Keypair
from app.livekit.client import LiveKitClient
from devstack.livekit_build import find_or_build
from devstack.ports import free_port, free_udp_port
from devstack.processes import Child
from devstack.relay import WebhookRelay

pytestmark = pytest.mark.real

CONFIG = Path(__file__).parents[2] / "deploy/compose/livekit.yaml"


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


async def test_livekit_takes_the_configuration_of_compose(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    relay_port = free_port()
    # Only what is the container's own differs.
    config |= {"port": free_port(), "bind_addresses": ["127.0.0.1"]}
    config["rtc"] |= {"tcp_port": free_port(), "udp_port": free_udp_port()}
    config["webhook"]["urls"] = [f"http://127.0.0.1:{relay_port}/webhook"]
    file = tmp_path / "livekit.yaml"
    file.write_text(yaml.safe_dump(config))
    relay = WebhookRelay(relay_port)
    await relay.start()
    server = Child(
        "livekit-server",
        [str(find_or_build()), "--config", str(file)],
        log_file=tmp_path / "livekit.log",
        env=dict(os.environ),
    )
    server.start()
    try:
        server.wait_until(lambda: listens(config["port"]), what="connection", timeout_s=30)
        [(key, secret)] = config["keys"].items()
        async with aiohttp.ClientSession() as session:
            client = LiveKitClient(
                session,
                f"ws://127.0.0.1:{config['port']}",
                Keypair(key=key, secret=secret),
                SteadyClock(),
            )
            await client.ensure_room("room", 60)
            await relay.wait_for("room", "room_started")
    finally:
        server.stop(grace_s=1)
        await relay.stop()
