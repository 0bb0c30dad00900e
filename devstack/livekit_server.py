"""A real livekit-server on the loopback interface, for development and tests."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from devstack.ports import LOOPBACK, free_port, free_udp_port
from devstack.processes import Child

_START_TIMEOUT_S = 20.0


class LiveKitServer:
    """One livekit-server; it keeps its ports and keys, so that it can be restarted."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        webhook_urls: Sequence[str] = (),
        api_key: str = "devkey",
        api_secret: str = "dev-secret-of-at-least-32-characters",  # noqa: S107 - a loopback server's key
        port: int = 0,
    ) -> None:
        self.port = free_port(port)
        self.url = f"ws://{LOOPBACK}:{self.port}"
        self.http_url = f"http://{LOOPBACK}:{self.port}"
        self.api_key = api_key
        self.api_secret = api_secret
        self._config_file = folder / "livekit.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        # YAML is a superset of JSON.
        self._config_file.write_text(json.dumps(self._config(webhook_urls), indent=2))
        self._config_file.chmod(0o600)
        self.child = Child(
            "livekit-server",
            [str(binary), "--config", str(self._config_file)],
            log_file=folder / "livekit.log",
            env=dict(os.environ),
        )

    def _config(self, webhook_urls: Sequence[str]) -> dict[str, object]:
        config: dict[str, object] = {
            "port": self.port,
            "bind_addresses": [LOOPBACK],
            "rtc": {
                "tcp_port": free_port(),
                "udp_port": free_udp_port(),
                "node_ip": LOOPBACK,
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo", "lo0"]},
            },
            "keys": {self.api_key: self.api_secret},
            "logging": {"level": "info"},
        }
        if webhook_urls:
            config["webhook"] = {"api_key": self.api_key, "urls": list(webhook_urls)}
        return config

    def start(self) -> None:
        """Start it and return once it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        self.child.start()

    def wait_until_ready(self) -> None:
        self.child.wait_until(self._answers, what="answer on its HTTP port", timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        # On SIGTERM it waits until its rooms are empty; nothing is lost here without that.
        self.child.stop(grace_s=1.0)

    def kill(self) -> None:
        self.child.kill()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.http_url, timeout=1.0):  # noqa: S310 - a fixed loopback URL
                return True
        except (urllib.error.URLError, OSError):
            return False
