"""The stack of the command `dev`: LiveKit, the service and the example worker."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child
from devstack.service import Service
from devstack.workers import LIFECYCLE_URL, Worker

# High enough for a developer who keeps reloading the page, but not for a runaway loop.
_DEV_ENV = {"LIFECYCLE_ENV": "dev", "RATE_LIMIT_PER_MINUTE": "600", "CONVERSATION_MEMORY": "on"}


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """The developer's choices; a port that is taken is replaced by a free one."""

    port: int
    livekit_port: int
    agent_name: str
    ttl_s: int
    folder: Path


class Stack:
    """Starts the three in the order of their dependencies, and stops them in reverse."""

    def __init__(
        self,
        options: StackOptions,
        report: Callable[[str], None],
        *,
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`undisturbed` protects each start of a process from an interruption."""
        port = _port(options.port, "the service", report)
        livekit_port = _port(options.livekit_port, "LiveKit", report)
        self.server = LiveKitServer(
            find_or_build(report),
            options.folder,
            webhook_urls=[f"http://{LOOPBACK}:{port}/api/livekit/webhook"],
            port=livekit_port,
        )
        self.service = Service(
            self.server,
            options.folder,
            agent_name=options.agent_name,
            port=port,
            env=_DEV_ENV | {"AGENT_TTL_SECONDS": str(options.ttl_s)},
        )
        # The service may have several agent names; the example worker has the default one.
        example_agent = options.agent_name.partition(",")[0]
        # Its worker reports to the service, and remembers conversations there.
        told = {LIFECYCLE_URL: self.service.base_url}
        self.worker = Worker(self.server, options.folder, agent_name=example_agent, env=told)
        self._report = report
        self._undisturbed = undisturbed

    @property
    def children(self) -> list[Child]:
        return [self.server.child, self.worker.child, self.service.child]

    def start(self) -> None:
        self._report(f"starting LiveKit at {self.server.url}")
        with self._undisturbed():
            self.server.launch()
        self.server.wait_until_ready()
        self._report(
            f"starting the service at {self.service.base_url} and the worker {self.worker.agent_name}"
        )
        # In parallel: each takes seconds for its imports.
        with self._undisturbed():
            self.service.launch()
        with self._undisturbed():
            self.worker.start(wait=False)
        self.service.wait_until_ready()
        self.worker.wait_until_registered()

    def stop(self) -> None:
        self.service.stop()
        self.worker.stop()
        self.server.stop()

    def kill(self) -> None:
        for child in self.children:
            child.kill()


def _port(wanted: int, whose: str, report: Callable[[str], None]) -> int:
    port = free_port(wanted)
    if wanted not in {port, 0}:
        report(f"port {wanted} is taken: {whose} uses {port}")
    return port
