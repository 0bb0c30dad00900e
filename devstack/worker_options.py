"""Options of the example workers: small, quick to start, and never rejecting a job."""

import math
import os
from collections.abc import Callable
from typing import TypedDict

from livekit.agents import JobExecutorType, JobProcess
from livekit.rtc._ffi_client import FfiClient

from devstack.ports import LOOPBACK

#: Variable of the workers that are reported.
MAX_JOBS = "WORKER_MAX_JOBS"


class WorkerOptions(TypedDict):
    """The AgentServer arguments that differ from a deployment."""

    host: str
    port: int
    num_idle_processes: int
    job_executor_type: JobExecutorType
    setup_fnc: Callable[[JobProcess], None]
    load_fnc: Callable[[], float]
    load_threshold: float
    drain_timeout: int


def agent_name() -> str:
    return os.environ.get("AGENT_NAME", "example-agent")


def max_jobs() -> int | None:
    """How many jobs the worker takes at once; None: as many as LiveKit gives it."""
    text = os.environ.get(MAX_JOBS, "")
    return int(text) if text else None


def server_options() -> WorkerOptions:
    return WorkerOptions(
        host=LOOPBACK,
        port=0,
        num_idle_processes=1,
        # A job in a thread starts in a tenth of the time, and a process group has one member to signal.
        job_executor_type=JobExecutorType.THREAD,
        setup_fnc=_start_runtime,
        load_fnc=_constant_load,
        # A job that is accepted and not launched yet counts as the whole threshold, whatever the load is.
        load_threshold=math.inf,
        drain_timeout=int(os.environ.get("DRAIN_TIMEOUT_SECONDS", "3600")),
    )


def _start_runtime(_: JobProcess) -> None:
    # livekit-rtc 1.1.21 makes its client at first use, without a lock: of two threads that connect first and
    # at once, one never hears of its connection, and 15 s later that ends the process.
    _ = FfiClient.instance


def _constant_load() -> float:
    # By default a worker rejects jobs above 70 % CPU, which a small machine reaches at once in tests.
    return 0.1
