"""The figures of a soak: of the whole time, and of its last tenth against its first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Figure, Unit
from bench.soak_tenths import Quantiles, Tenths

_PART = "soak"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The service's process and its load at one moment."""

    at_s: float
    resident_mb: float
    cpu_s: float
    threads: int
    open_files: int
    database_mb: float
    wal_mb: float
    agents: int
    taken: int
    #: Told, and not answered yet.
    waiting: int
    errors: int

    @classmethod
    def of(cls, pid: int, database: Path, at_s: float, progress: Mapping[str, Any]) -> "Sample":
        process = Path(f"/proc/{pid}")
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        # The name in parentheses may contain spaces.
        times = (process / "stat").read_text().rpartition(") ")[2].split()
        return cls(
            at_s=at_s,
            resident_mb=int(status["VmRSS"].split()[0]) / 1024,
            cpu_s=(int(times[11]) + int(times[12])) / _TICKS_PER_S,
            threads=int(status["Threads"]),
            open_files=len(list((process / "fd").iterdir())),
            database_mb=database.stat().st_size / _MB,
            wal_mb=database.with_name(f"{database.name}-wal").stat().st_size / _MB,
            agents=progress["agents"],
            taken=progress["taken"],
            waiting=progress["waiting"],
            errors=sum(progress["errors"].values()),
        )

    def line(self, first: "Sample", before: "Sample") -> str:
        elapsed_s = self.at_s - before.at_s
        return (
            f"{(self.at_s - first.at_s) / 60:5.1f} min: {self.agents:,} agents, "
            f"{(self.taken - before.taken) / elapsed_s:,.0f} webhooks/s, {self.waiting} waiting, "
            f"{self.resident_mb:.1f} MB, {(self.cpu_s - before.cpu_s) / elapsed_s:.0%} of a core, "
            f"database {self.database_mb:.0f} MB, WAL {self.wal_mb:.1f} MB, "
            f"{self.open_files} files, {self.errors} errors"
        )


def figures_of(
    samples: Sequence[Sample],
    *,
    webhooks_ms: Mapping[str, Quantiles],
    calls_ms: Mapping[str, Quantiles],
    ttl_lags: Tenths,
    errors: int,
    different_rooms: int,
    log_lines: int,
    per_second: float,
) -> list[Figure]:
    """`samples`: a multiple of ten, and one more for the begin."""
    first, last = samples[0], samples[-1]
    in_tenth = (len(samples) - 1) // 10
    lags_ms = ttl_lags.quantiles()
    return [
        _figure("agents alive, the fewest", min(one.agents for one in samples), Unit.COUNT),
        _figure(
            "webhooks taken",
            (last.taken - first.taken) / (last.at_s - first.at_s),
            Unit.PER_SECOND,
            at_least=0.99 * per_second,
        ),
        _figure("answers other than 200", errors, Unit.COUNT, at_most=0),
        _figure("rooms that differ from LiveKit's once it is quiet", different_rooms, Unit.COUNT, at_most=0),
        _figure("lines of the log, warnings and errors", log_lines, Unit.COUNT),
        *_times("a webhook's time", webhooks_ms, at_most_ms=25),
        *_times("a TTL's lag", lags_ms, at_most_ms=250),
        *_times("a call for an agent", calls_ms, at_most_ms=None),
        _growth("CPU for each webhook, with all that follows", *_cpu_us(samples, in_tenth), Unit.US, 1.2),
        _since("memory", first.resident_mb, last.resident_mb, Unit.MB, at_most=1.2),
        _since("open files", first.open_files, last.open_files, Unit.COUNT, at_most=1.2),
        _since("threads", first.threads, last.threads, Unit.COUNT, at_most=1.2),
        _since("size of the database", first.database_mb, last.database_mb, Unit.MB, at_most=None),
        _figure("size of its WAL, the most", max(one.wal_mb for one in samples), Unit.MB),
    ]


def _times(what: str, times_ms: Mapping[str, Quantiles], *, at_most_ms: float | None) -> list[Figure]:
    whole, first, last = times_ms["whole"], times_ms["first"], times_ms["last"]
    return [
        _figure(f"{what}, p50", whole["p50"], Unit.MS),
        _figure(f"{what}, p99", whole["p99"], Unit.MS, at_most=at_most_ms),
        _growth(f"{what}, p99", first["p99"], last["p99"], Unit.MS, 2.0),
    ]


def _cpu_us(samples: Sequence[Sample], in_tenth: int) -> tuple[float, float]:
    """Of the first and of the last tenth."""

    def between(before: Sample, after: Sample) -> float:
        return (after.cpu_s - before.cpu_s) / max(1, after.taken - before.taken) * 1e6

    return between(samples[0], samples[in_tenth]), between(samples[-1 - in_tenth], samples[-1])


def _growth(what: str, first: float, last: float, unit: Unit, at_most: float) -> Figure:
    return Figure(
        part=_PART,
        what=f"{what}, in the last tenth",
        value=last,
        unit=unit,
        reference="in the first",
        reference_value=first,
        # Zero: nothing was measured, so nothing is judged.
        at_most=at_most if first and last else None,
    )


def _since(what: str, first: float, last: float, unit: Unit, *, at_most: float | None) -> Figure:
    return Figure(
        part=_PART,
        what=f"{what} at the end",
        value=last,
        unit=unit,
        reference="after warm-up",
        reference_value=first,
        at_most=at_most,
    )


def _figure(
    what: str, value: float, unit: Unit, *, at_least: float | None = None, at_most: float | None = None
) -> Figure:
    return Figure(part=_PART, what=what, value=value, unit=unit, at_least=at_least, at_most=at_most)
