"""The service as a real process, like in a deployment."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child, Spawn, popen

_READY_TIMEOUT_S = 30.0
_STOP_GRACE_S = 15.0
API_KEY = "dev-api-key-of-this-machine"


class Service:
    """One `python -m app`; it keeps its port and its database across stops, kills and restarts."""

    def __init__(
        self,
        server: LiveKitServer,
        folder: Path,
        *,
        agent_name: str,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        name: str = "service",
        spawn: Spawn = popen,
    ) -> None:
        """`env` adds to the service's environment and overrides these defaults; see docs/configuration.md."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port(port)
        self.base_url = f"http://{LOOPBACK}:{self.port}"
        self.webhook_url = f"{self.base_url}/api/livekit/webhook"
        self.database = folder / "lifecycle.db"
        defaults = {
            "LIVEKIT_URL": server.url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
            "AGENT_NAME": agent_name,
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.database}",
            "HOST": LOOPBACK,
            "PORT": str(self.port),
            "API_KEYS": API_KEY,
            # One test makes as many calls as a whole backend.
            "RATE_LIMIT_PER_MINUTE": "0",
            "PYTHONUNBUFFERED": "1",
        }
        self.child = Child(
            name,
            [sys.executable, "-m", "app"],
            log_file=folder / f"{name}.log",
            env=dict(os.environ) | defaults | dict(env or {}),
            spawn=spawn,
        )

    def start(self) -> None:
        """Start it and return once it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it without waiting: with LiveKit down it becomes ready late, or never."""
        self.child.start()

    def wait_until_ready(self, *, timeout_s: float = _READY_TIMEOUT_S) -> None:
        self.child.wait_until(self._ready, what="200 from /readyz", timeout_s=timeout_s)

    def stop(self) -> int | None:
        """Stop it like an orchestrator, and return its exit code."""
        return self.child.stop(grace_s=_STOP_GRACE_S)

    def kill(self) -> None:
        self.child.kill()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=2.0):  # noqa: S310 - a fixed loopback URL
                return True
        except (urllib.error.URLError, OSError):
            return False
