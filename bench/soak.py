"""A soak: one service under a steady load for an hour: what has grown, slowed down or drifted by its end."""

import asyncio
import json
import os
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from app.lifecycle import SECOND_US
from bench.contenders import KEYPAIR
from bench.figures import Figure
from bench.machine import LOAD_CORES, SERVER_CORES, pinned
from bench.seeds import AGENT_NAME
from bench.soak_figures import Sample, figures_of
from bench.soak_tenths import Tenths
from bench.soak_world import Load
from devstack.chaos.databases import Tables
from devstack.chaos.drift import RoomState, differences, leftovers
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child
from devstack.service import API_KEY

_MINUTES = "BENCH_SOAK_MINUTES"
_START_TIMEOUT_S, _STOP_GRACE_S = 30.0, 15.0
#: Until as many agents are alive as are wanted.
_FILL_TIMEOUT_S = 600.0
#: Between two looks while something is waited for.
_POLL_S = 1.0
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Plan:
    load: Load
    duration_s: float
    #: With all agents alive, before anything is measured.
    warm_up_s: float
    cleanup_interval_s: float
    #: Until the tables and LiveKit agree, once nobody joins or leaves any more.
    quiet_within_s: float


def measure(folder: Path) -> list[Figure]:
    """5,000 agents and 1,000 webhooks a second, for `BENCH_SOAK_MINUTES` (60)."""
    load = Load(
        agents=5_000,
        plain_rooms=1_000,
        webhooks_per_second=1_000,
        ttl_s=120,
        visit_s=180,
        begins_per_second=50,
    )
    plan = Plan(
        load=load,
        duration_s=float(os.environ.get(_MINUTES, "60")) * 60,
        # A visit and a TTL, so that as many rooms finish as begin.
        warm_up_s=load.visit_s + load.ttl_s,
        cleanup_interval_s=60,
        quiet_within_s=360,
    )
    return _run(plan, folder)


def smoke(folder: Path) -> list[Figure]:
    load = Load(agents=20, plain_rooms=10, webhooks_per_second=100, ttl_s=1, visit_s=2, begins_per_second=50)
    plan = Plan(load=load, duration_s=3, warm_up_s=0, cleanup_interval_s=1, quiet_within_s=30)
    return _run(plan, folder)


def _run(plan: Plan, folder: Path) -> list[Figure]:
    with _running(plan, folder) as soak:
        soak.fill()
        samples = soak.watch()
        different_rooms = soak.calm_down()
        results = soak.ask("results")
    for error, count in results["errors"].items():
        print(f"  {count} times: {error}", file=sys.stderr, flush=True)
    return figures_of(
        samples,
        webhooks_ms=results["webhooks_ms"],
        calls_ms=results["calls_ms"],
        ttl_lags=_ttl_lags(plan, soak.database, results["deleted_at_s"], samples[0].at_s),
        errors=sum(results["errors"].values()),
        different_rooms=different_rooms,
        log_lines=len(soak.service.output().splitlines()),
        per_second=plan.load.webhooks_per_second,
    )


@contextmanager
def _running(plan: Plan, folder: Path) -> Iterator["_Soak"]:
    """The service and its LiveKit, each in a process of its own."""
    livekit_port, service_port = free_port(), free_port()
    base_url, database = f"http://{LOOPBACK}:{service_port}", folder / "soak.db"
    livekit = Child(
        "livekit",
        [
            *(sys.executable, "-m", "bench.soak_driver", str(livekit_port)),
            f"{base_url}/api/livekit/webhook",
            f"{base_url}/api/livekit/dispatch-agent",
            json.dumps(asdict(plan.load)),
        ],
        log_file=folder / "livekit.log",
        env=os.environ,
    )
    service = Child(
        "service",
        [sys.executable, "-m", "app"],
        log_file=folder / "service.log",
        env=dict(os.environ)
        | {
            "LIVEKIT_URL": f"ws://{LOOPBACK}:{livekit_port}",
            "LIVEKIT_API_KEY": KEYPAIR.key,
            "LIVEKIT_API_SECRET": KEYPAIR.secret,
            "AGENT_NAME": AGENT_NAME,
            "AGENT_TTL_SECONDS": str(plan.load.ttl_s),
            "CLEANUP_INTERVAL_MS": str(round(plan.cleanup_interval_s * 1e3)),
            "DATABASE_URL": f"sqlite:///{database}",
            "HOST": LOOPBACK,
            "PORT": str(service_port),
            "API_KEYS": API_KEY,
            "RATE_LIMIT_PER_MINUTE": "0",
            "ALERT_MAX_AGENTS": str(2 * plan.load.agents),
            # A line for every dispatch fills the disk within an hour.
            "LOG_LEVEL": "WARNING",
        },
    )
    soak = _Soak(plan, service, f"http://{LOOPBACK}:{livekit_port}/soak", database)
    try:
        with pinned(LOAD_CORES):
            livekit.start()
        livekit.wait_until(
            lambda: _answers(soak.livekit_url + "/progress"), what="answer", timeout_s=_START_TIMEOUT_S
        )
        with pinned(SERVER_CORES):
            service.start()
        service.wait_until(
            lambda: _answers(f"{base_url}/readyz"), what="200 from /readyz", timeout_s=_START_TIMEOUT_S
        )
        yield soak
    finally:
        service.stop(grace_s=_STOP_GRACE_S)
        livekit.stop()
        if problems := livekit.output():
            print(f"the stub LiveKit reported:\n{problems[-2_000:]}", file=sys.stderr, flush=True)


class _Soak:
    def __init__(self, plan: Plan, service: Child, livekit_url: str, database: Path) -> None:
        self.service = service
        self.livekit_url = livekit_url
        self.database = database
        self._plan = plan
        self._tables = Tables(f"sqlite:///{database}")

    def ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.livekit_url}/{what}", timeout=60) as answer:  # noqa: S310 - a loopback URL
            return json.load(answer)

    def tell(self, what: str) -> None:
        request = urllib.request.Request(f"{self.livekit_url}/{what}", method="POST")  # noqa: S310 - a loopback URL
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310 - the same
            pass

    def fill(self) -> None:
        """Begin rooms until all agents are alive, then let the whole load run for a while."""
        self.tell("begin")
        enough, shown_at_s = 0.95 * self._plan.load.agents, time.monotonic()
        deadline_s = shown_at_s + _FILL_TIMEOUT_S
        while self.ask("progress")["agents"] < enough:
            if time.monotonic() > deadline_s:
                raise RuntimeError(
                    f"not {enough:.0f} agents within {_FILL_TIMEOUT_S:.0f} s: {self._sample()}"
                )
            time.sleep(_POLL_S)
        self.tell("crowd")
        print(f"  {enough:.0f} agents are alive; warming up", file=sys.stderr, flush=True)
        time.sleep(self._plan.warm_up_s)

    def watch(self) -> list[Sample]:
        """Measure; returns the samples, whose number is a multiple of ten, and one more for the begin."""
        tenth_s = self._plan.duration_s / 10
        interval_s = tenth_s / ceil(tenth_s / 60)
        began_s = time.monotonic()
        self.tell(f"measure?for_s={self._plan.duration_s}")
        samples = [self._sample()]
        for number in range(1, round(self._plan.duration_s / interval_s) + 1):
            time.sleep(max(0.0, began_s + number * interval_s - time.monotonic()))
            samples.append(self._sample())
            print(f"  {samples[-1].line(samples[0], samples[-2])}", file=sys.stderr, flush=True)
        return samples

    def calm_down(self) -> int:
        """How many rooms differ once nobody joins or leaves any more and every TTL has ended."""
        self.tell("quiet")
        began_s = time.monotonic()
        while self.ask("progress")["waiting"] and time.monotonic() - began_s < self._plan.quiet_within_s:
            time.sleep(_POLL_S)
        found = self._differences()
        while found and time.monotonic() - began_s < self._plan.quiet_within_s:
            time.sleep(_POLL_S)
            found = self._differences()
        took_s = time.monotonic() - began_s
        print(f"  quiet after {took_s:.0f} s: {len(found)} rooms differ", file=sys.stderr, flush=True)
        for room in sorted(found)[:_SHOWN]:
            print(f"    {room}: {found[room]}", file=sys.stderr, flush=True)
        return len(found)

    def _differences(self) -> dict[str, list[str]]:
        """By room: an agent where people want one, none elsewhere, and the service's rows say the same."""
        rows = asyncio.run(self._tables.open_dispatches())
        rooms = self.ask("rooms")
        wanted = {room["name"] for room in rooms if room["is_wanted"]}
        states = [
            RoomState(name=one["name"], dispatches=tuple(one["dispatches"]), agents=tuple(one["agents"]))
            for one in rooms
        ]
        unwanted = [one for one in states if one.name not in wanted]
        found: dict[str, list[str]] = {}
        for one in (
            *differences(states, rows, wanted),
            *leftovers(unwanted, [row for row in rows if row.room_name not in wanted]),
        ):
            found.setdefault(one.room, []).append(f"{one.kind} ({one.detail})")
        return found

    def _sample(self) -> Sample:
        if not self.service.running:
            raise RuntimeError(f"the service has ended\n{self.service.tail()}")
        return Sample.of(self.service.pid, self.database, time.time(), self.ask("progress"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0):  # noqa: S310 - a loopback URL
            return True
    except OSError:
        return False


def _ttl_lags(plan: Plan, database: Path, deleted_at_s: Mapping[str, float], begins_s: float) -> Tenths:
    """From the moment at which a TTL ends until LiveKit was told to end the agent.

    The deadline itself is cleared with the end, but not the moment from which it ran.
    """
    lags = Tenths(begins_s, plan.duration_s)
    query = "SELECT dispatch_id, vacated_at FROM dispatches WHERE end_reason = 'expired'"
    with closing(sqlite3.connect(database)) as connection:
        for dispatch_id, vacated_at in connection.execute(query):
            if vacated_at is not None and dispatch_id in deleted_at_s:
                due_s = vacated_at / SECOND_US + plan.load.ttl_s
                lags.add(due_s, deleted_at_s[dispatch_id] - due_s)
    return lags
