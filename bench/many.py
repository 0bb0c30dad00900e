"""Figures for a service with many agents; each is measured several times, in separate processes."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from bench.figures import Figure, Unit
from bench.machine import SERVER_CORES, pinned


def measure_storm(*, rounds: int, agents: int) -> list[Figure]:
    runs = _runs("storm", agents, rounds)
    what = f"{agents:,} TTLs that end within a second"
    return [
        Figure(part="storm", what=f"{what}: lag, p50", value=_median(runs, "lag_p50_ms"), unit=Unit.MS),
        Figure(
            part="storm",
            what=f"{what}: lag, p99",
            value=_median(runs, "lag_p99_ms"),
            unit=Unit.MS,
            at_most=250,
        ),
        Figure(
            part="storm",
            what="calls to LiveKit at once",
            value=_median(runs, "most_calls"),
            unit=Unit.COUNT,
            at_most=32,
        ),
    ]


def measure_restore(*, rounds: int, agents: int) -> list[Figure]:
    runs = _runs("restore", agents, rounds)
    what = f"{agents:,} agents"
    stalls = (("restore", "restore_stall_ms"), ("sweep", "sweep_stall_ms"))
    return [
        Figure(
            part="restore",
            what=f"{what}: until all timers run",
            value=_median(runs, "restore_s"),
            unit=Unit.S,
            at_most=1.0,
        ),
        *(
            Figure(
                part="restore",
                what=f"{what}: longest stall, {name}",
                value=_median(runs, key),
                unit=Unit.MS,
                at_most=50,
            )
            for name, key in stalls
        ),
    ]


def measure_reconcile(*, rounds: int, agents: int) -> list[Figure]:
    runs = _runs("reconcile", agents, rounds)
    what = f"{agents:,} rooms"
    return [
        Figure(
            part="restore",
            what=f"{what}: a round of reconcile",
            value=_median(runs, "reconcile_s"),
            unit=Unit.S,
        ),
        Figure(
            part="restore",
            what=f"{what}: longest stall, reconcile",
            value=_median(runs, "reconcile_stall_ms"),
            unit=Unit.MS,
            at_most=50,
        ),
    ]


def measure_memory(*, rounds: int, agents: int) -> list[Figure]:
    runs = _runs("memory", agents, rounds)
    value = _median(runs, "per_agent_kb")
    return [Figure(part="memory", what="for each tracked agent", value=value, unit=Unit.KB, at_most=2.0)]


def measure_growth(*, rounds: int, few: int, many: int) -> list[Figure]:
    some = _runs("growth", few, rounds)
    all_ = _runs("growth", many, rounds)
    return [
        Figure(
            part="growth",
            what=f"a webhook among {many:,} agents",
            value=_median(all_, "event_us"),
            unit=Unit.US,
            reference=f"among {few:,}",
            reference_value=_median(some, "event_us"),
            at_most=1.3,
        )
    ]


def measure_timers(*, rounds: int, agents: int) -> list[Figure]:
    runs = _runs("timers", agents, rounds)
    return [
        Figure(
            part="timers",
            what="to set or move a timer",
            value=_median(runs, "ours_us"),
            unit=Unit.US,
            reference="APScheduler",
            reference_value=_median(runs, "apscheduler_us"),
        )
    ]


def _runs(what: str, agents: int, rounds: int) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "bench.resident", what, str(agents)]
    found = []
    with pinned(SERVER_CORES):
        for _ in range(rounds):
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise RuntimeError(f"{' '.join(command)} failed\n{run.stderr[-2000:]}")
            found.append(json.loads(run.stdout.strip().splitlines()[-1]))
    return found


def _median(runs: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)
