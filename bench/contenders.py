"""Contenders: servers that take the same webhooks, each in its own process on the servers' core."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.config.settings import Keypair
from bench.machine import SERVER_CORES, pinned
from devstack.npm import environment, run_command
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child

PATH = "/api/livekit/webhook"
KEYPAIR = Keypair(key="benchkey", secret="bench-secret-of-at-least-32-characters")  # noqa: S106 - a loopback key
_EXPRESS = Path(__file__).parent / "peers" / "express"
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One server that takes webhooks; `{port}` and `{database}` in its command are replaced."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = PATH
    cores: frozenset[int] = SERVER_CORES

    @contextmanager
    def running(self, folder: Path) -> Iterator[str]:
        """Run it with a new, empty database; yields its webhook URL."""
        port, database = free_port(), folder / f"{self.name.replace(' ', '-')}-{time.monotonic_ns()}.db"
        places = {"port": str(port), "database": str(database)}
        child = Child(
            self.name,
            [part.format(**places) for part in self.command],
            log_file=folder / f"{database.stem}.log",
            env=dict(os.environ)
            | {"LIVEKIT_API_KEY": KEYPAIR.key, "LIVEKIT_API_SECRET": KEYPAIR.secret}
            | {name: value.format(**places) for name, value in self.env.items()},
        )
        with pinned(self.cores):
            child.start()
        try:
            child.wait_until(lambda: _listens(port), what="port that listens", timeout_s=_START_TIMEOUT_S)
            yield f"http://{LOOPBACK}:{port}{self.path}"
        finally:
            child.stop()
            for file in folder.glob(f"{database.name}*"):
                file.unlink()


SERVICE = Contender(
    name="this service",
    command=(sys.executable, "-m", "app"),
    env={
        # No LiveKit listens there: webhooks are committed all the same.
        "LIVEKIT_URL": f"ws://{LOOPBACK}:9",
        "AGENT_NAME": "assistant",
        "DATABASE_URL": "sqlite:///{database}",
        "HOST": LOOPBACK,
        "PORT": "{port}",
    },
)
BARE = Contender(name="bare aiohttp POST", command=(sys.executable, "-m", "bench.peers.bare", "{port}"))
ORM = Contender(
    name="SDK + ORM + commit each", command=(sys.executable, "-m", "bench.peers.orm", "{port}", "{database}")
)


def express_contenders() -> tuple[Contender, Contender]:
    """Express in memory, and on SQLite; installs their npm packages first.

    Raises:
        NpmError: there is no npm, or the installation failed; the message has the reason.
    """
    environ = _express_environment()
    command = ("node", str(_EXPRESS / "server.js"), "{port}")
    path = {"PATH": environ["PATH"]}
    return (
        Contender(name="Express + SDK + Map", command=command, env=path),
        Contender(name="Express + SDK + better-sqlite3", command=(*command, "{database}"), env=path),
    )


def _express_environment() -> Mapping[str, str]:
    environ = environment()
    node = subprocess.run(
        ["node", "--print", "process.execPath + ' ' + process.version"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # better-sqlite3 is compiled here against this node's headers, and runs on no other node.
    environ |= {"npm_config_nodedir": str(Path(node.rpartition(" ")[0]).parent.parent)}
    lock, made_for = _EXPRESS / "package-lock.json", _EXPRESS / "node_modules" / ".made-for"
    is_made = made_for.exists() and made_for.read_text() == node
    if not is_made or made_for.stat().st_mtime < lock.stat().st_mtime:
        print("installing the Express peers (npm ci, about a minute)", flush=True)
        run_command(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], _EXPRESS, environ, print)
        made_for.write_text(node)
    return environ


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
