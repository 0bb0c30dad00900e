"""wrk with the corpus: each of 32 connections sends the next webhook when the last is answered."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.machine import LOAD_CORES, pinned

_SCRIPT = Path(__file__).with_name("replay.lua")


class WrkError(RuntimeError):
    """wrk is missing, or its result is not valid."""


@dataclass(frozen=True, kw_only=True)
class Load:
    requests: int
    duration_us: int
    #: Answered with 400 or above.
    refused: int
    #: Not answered.
    broken: int
    #: How often the corpus was started again from its beginning.
    laps: int
    p50_us: int
    p99_us: int

    @property
    def per_second(self) -> float:
        return self.requests / self.duration_us * 1e6


def replay(url: str, corpus: Path, duration_s: float, *, connections: int = 32) -> Load:
    """Send the corpus for `duration_s`.

    Raises:
        WrkError: wrk is missing or failed, or a webhook was not accepted, or was sent twice.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise WrkError("wrk is missing: apt-get install wrk")
    command = [
        wrk,
        "--threads=1",
        f"--connections={connections}",
        # wrk accepts whole seconds only.
        f"--duration={max(1, round(duration_s))}s",
        "--timeout=10s",
        f"--script={_SCRIPT}",
        url,
        "--",
        str(corpus),
    ]
    with pinned(LOAD_CORES):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0 or not run.stdout.strip():
        raise WrkError(f"wrk failed: {run.stdout[-1000:]}{run.stderr[-1000:]}")
    load = Load(**json.loads(run.stdout.strip().splitlines()[-1]))
    if load.refused or load.broken or load.laps:
        raise WrkError(f"not every webhook was new and accepted: {load}")
    return load
