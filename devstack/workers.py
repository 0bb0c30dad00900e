"""Real livekit-agents workers, one process each."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from devstack.livekit_server import LiveKitServer
from devstack.processes import Child, Spawn, popen

_REGISTER_TIMEOUT_S = 60.0
_REGISTERED = "registered worker"

#: Variables of the worker that is told: the type of its jobs, the identity of all its agents, and how long
#: they load.
TYPE, IDENTITY, WAITS_S = "WORKER_TYPE", "WORKER_IDENTITY", "WORKER_WAITS_S"
#: Variable of the example worker: how long its agents load before they connect.
LOADS_S = "WORKER_LOADS_S"

#: livekit-agents reads it: LiveKit gives such a worker only the dispatches for that deployment.
DEPLOYMENT = "LIVEKIT_AGENT_DEPLOYMENT"
#: The helper reports the worker to the service there.
LIFECYCLE_URL = "AGENT_LIFECYCLE_URL"
#: Variable of the worker that obeys: its sessions start once this file exists.
STARTS_WITH = "WORKER_STARTS_WITH"


class WorkerKind(StrEnum):
    """The example that a worker runs; the value is its module."""

    REUSABLE = "devstack.example_worker"
    PLAIN = "devstack.plain_worker"
    OBEDIENT = "devstack.obedient_worker"
    TOLD = "devstack.told_worker"
    HEARING = "devstack.hearing_worker"


class Worker:
    """A worker registered as `agent_name`; it can be killed, frozen, drained and restarted."""

    def __init__(
        self,
        server: LiveKitServer,
        folder: Path,
        *,
        agent_name: str,
        kind: WorkerKind = WorkerKind.REUSABLE,
        drain_timeout_s: int = 3600,
        env: Mapping[str, str] | None = None,
        spawn: Spawn = popen,
    ) -> None:
        """`env` adds to the worker's environment."""
        self.agent_name = agent_name
        self.kind = kind
        own_env = dict(os.environ) | {
            "LIVEKIT_URL": server.url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
            "AGENT_NAME": agent_name,
            "DRAIN_TIMEOUT_SECONDS": str(drain_timeout_s),
            "PYTHONUNBUFFERED": "1",
        }
        self.child = Child(
            f"worker {agent_name}",
            [sys.executable, "-m", kind.value, "start"],
            log_file=folder / f"worker-{agent_name}.log",
            env=own_env | dict(env or {}),
            spawn=spawn,
        )

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, return once it is registered with LiveKit."""
        self.child.start()
        if wait:
            self.wait_until_registered()

    def revive(self) -> None:
        """Start it again if it has died."""
        if not self.child.running:
            self.start()

    def wait_until_registered(self) -> None:
        self.child.wait_for_line(_REGISTERED, timeout_s=_REGISTER_TIMEOUT_S)

    def drain(self) -> None:
        """Like a redeploy: SIGTERM to the worker, which lets its jobs finish within its drain time."""
        self.child.terminate()

    def freeze(self) -> None:
        self.child.freeze()

    def thaw(self) -> None:
        self.child.thaw()

    def kill(self) -> None:
        """Like a crash: everything is gone at once, without a leave."""
        self.child.kill()

    def stop(self) -> None:
        # Draining could take an hour; a second signal makes the worker leave at once.
        self.child.stop(grace_s=0.5)
