"""Measurements of a service with many agents: restore time, cost per agent, lag of simultaneous TTLs.

Each measurement is a separate process, so that none inherits another's memory: `python -m bench.resident
MEASUREMENT AGENTS` prints one line of JSON.
"""

import asyncio
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from app.__main__ import settle_memory
from app.clock import SteadyClock
from app.config.settings import load_config
from app.database import migrations
from app.database.engine import create_engine
from app.database.store import Store
from app.lifecycle import SECOND_US
from app.livekit.webhooks import translate
from app.logs.counts import LogCounts
from app.service import Service, build_service
from app.state.changes import RoomEvent
from bench.corpus import bodies
from bench.seeds import AGENT_NAME, make_seeds, write_database
from bench.stub_livekit import StubLiveKit

_STORM_WITHIN_S, _STORM_BEGINS_S = 1.0, 1.5
_LIVEKIT_ANSWERS_S = 0.005
_BATCH = 24
_WARM_UP_EVENTS = 400


@asynccontextmanager
async def _service(url: str, livekit: StubLiveKit) -> AsyncIterator[Service]:
    """Built and migrated, but not started."""
    logging.disable(logging.CRITICAL)
    config = load_config(
        {
            "LIVEKIT_URL": "ws://127.0.0.1:9",
            "LIVEKIT_API_KEY": "benchkey",
            "LIVEKIT_API_SECRET": "bench-secret-of-at-least-32-characters",
            "AGENT_NAME": AGENT_NAME,
            "DATABASE_URL": url.replace("sqlite+aiosqlite", "sqlite"),
            "CLEANUP_INTERVAL_MS": "600000",
            "LIVENESS_INTERVAL_SECONDS": "0",
        }
    )
    engine = create_engine(config.database_url)
    await migrations.upgrade(engine)
    store = Store(engine)
    service = build_service(config, store, livekit, SteadyClock(), LogCounts())
    settle_memory()
    yield service
    service.timers.stop()
    await store.close()


async def _longest_stall_s(work: Awaitable[object]) -> float:
    """The longest time for which the work blocked the event loop."""
    task = asyncio.ensure_future(work)
    longest_s, before_s = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0)
        now_s = time.perf_counter()
        longest_s, before_s = max(longest_s, now_s - before_s), now_s
    await task
    return longest_s


async def measure_restore(folder: Path, agents: int) -> dict[str, float]:
    """Time from a closed database until every timer runs, and the longest stall of the event loop."""
    seeds = make_seeds(agents)
    url = await write_database(folder / "restore.db", seeds.values())
    async with _service(url, StubLiveKit(seeds)) as service:
        began_s = time.perf_counter()
        restored = await service.sweeper.restore()
        restore_s = time.perf_counter() - began_s
        if restored != agents:
            raise RuntimeError(f"{restored} of {agents} timers were restored")
    async with _service(url, StubLiveKit(seeds)) as service:
        restore_stall_s = await _longest_stall_s(service.sweeper.restore())
    # Everything is overdue now, and LiveKit has none of the rooms: the largest possible sweep.
    overdue = make_seeds(agents, expire_in_s=-3_600, within_s=1)
    url = await write_database(folder / "sweep.db", overdue.values())
    async with _service(url, StubLiveKit({})) as service:
        sweep_stall_s = await _longest_stall_s(service.store.deadlines_until(time.time_ns() // 1_000))
    return {
        "restore_s": restore_s,
        "restore_stall_ms": restore_stall_s * 1e3,
        "sweep_stall_ms": sweep_stall_s * 1e3,
    }


async def measure_reconcile(folder: Path, agents: int) -> dict[str, float]:
    """A round of reconcile with a LiveKit that matches the tables."""
    seeds = make_seeds(agents)
    url = await write_database(folder / "reconcile.db", seeds.values())
    async with _service(url, StubLiveKit(seeds)) as service:
        service.processor.start()
        began_s = time.perf_counter()
        stall_s = await _longest_stall_s(service.reconciler.run())
        reconcile_s = time.perf_counter() - began_s
        await service.processor.close()
    return {"reconcile_s": reconcile_s, "reconcile_stall_ms": stall_s * 1e3}


async def measure_memory(folder: Path, agents: int) -> dict[str, float]:
    """Memory growth of the process while it restores this many agents."""
    url = await write_database(folder / "memory.db", make_seeds(agents).values())
    async with _service(url, StubLiveKit({})) as service:
        await service.store.ping()
        gc.collect()
        before_kb = _resident_kb()
        await service.sweeper.restore()
        gc.collect()
        per_agent_kb = (_resident_kb() - before_kb) / agents
    return {"per_agent_kb": per_agent_kb}


async def measure_storm(folder: Path, agents: int) -> dict[str, float]:
    """This many TTLs end within a second: how late each agent's deletion reaches LiveKit."""
    seeds = make_seeds(agents, expire_in_s=_STORM_BEGINS_S, within_s=_STORM_WITHIN_S)
    url = await write_database(folder / "storm.db", seeds.values())
    livekit = StubLiveKit(seeds, answers_after_s=_LIVEKIT_ANSWERS_S)
    async with _service(url, livekit) as service:
        service.processor.start()
        await service.sweeper.restore()
        wall_offset_s = time.time() - asyncio.get_running_loop().time()
        async with asyncio.timeout(60):
            await livekit.all_deleted.wait()
        lags_ms = sorted(
            (livekit.deleted_at_s[seed.name] + wall_offset_s - seed.expires_at / SECOND_US) * 1e3
            for seed in seeds.values()
        )
        await service.stop()
    return {
        "lag_p50_ms": statistics.median(lags_ms),
        "lag_p99_ms": lags_ms[round(len(lags_ms) * 0.99) - 1],
        "most_calls": livekit.most_under_way,
    }


async def measure_growth(folder: Path, agents: int) -> dict[str, float]:
    """The cost of committing a webhook of a room with an agent, among this many agents."""
    seeds = make_seeds(agents)
    url = await write_database(folder / "growth.db", seeds.values())
    created_at = next(iter(seeds.values())).since
    events = [
        event
        for body in bodies(
            10 * _WARM_UP_EVENTS, min(agents, 1_000), seed=1, created_s=created_at // SECOND_US
        )
        if (event := translate(body.encode()).event)
    ]
    async with _service(url, StubLiveKit(seeds)) as service:
        service.processor.start()
        await _commit_all(service, events[:_WARM_UP_EVENTS])
        began_s = time.process_time()
        await _commit_all(service, events[_WARM_UP_EVENTS:])
        cost_us = (time.process_time() - began_s) / (len(events) - _WARM_UP_EVENTS) * 1e6
        await service.stop()
    return {"event_us": cost_us}


async def _commit_all(service: Service, events: list[RoomEvent]) -> None:
    for start in range(0, len(events), _BATCH):
        await asyncio.gather(*map(service.processor.submit_one, events[start : start + _BATCH]))


async def measure_timers(_folder: Path, agents: int) -> dict[str, float]:
    """The cost of arming and moving a timer, compared with APScheduler."""
    # Imported here: only this measurement needs it, and the import is slow.
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    from app.control.timers import Timers
    from app.state.views import Deadline

    clock = SteadyClock()
    timers = Timers(clock, lambda _deadline: None)
    far_off = clock.now() + 3_600 * SECOND_US
    began_s = time.process_time()
    for turn in range(2):
        for number in range(agents):
            timers.arm(Deadline(str(number), "room", far_off + turn + number))
    ours_us = (time.process_time() - began_s) / agents / 2 * 1e6
    timers.stop()

    scheduler = AsyncIOScheduler()
    scheduler.start(paused=True)
    some = agents // 50
    due = time.time() + 3_600
    began_s = time.process_time()
    for turn in range(2):
        for number in range(some):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(due + turn))
            scheduler.add_job(_nothing, "date", run_date=when, id=str(number), replace_existing=True)
    theirs_us = (time.process_time() - began_s) / some / 2 * 1e6
    scheduler.shutdown(wait=False)
    return {"ours_us": ours_us, "apscheduler_us": theirs_us}


def _nothing() -> None:
    """The scheduled job, which never runs."""


def _resident_kb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise RuntimeError("the system does not report the resident memory")


MEASUREMENTS: Mapping[str, Callable[[Path, int], Awaitable[dict[str, float]]]] = {
    "restore": measure_restore,
    "reconcile": measure_reconcile,
    "memory": measure_memory,
    "storm": measure_storm,
    "growth": measure_growth,
    "timers": measure_timers,
}


def main() -> None:
    what, agents = sys.argv[1], int(sys.argv[2])

    async def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            return await MEASUREMENTS[what](Path(folder), agents)

    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()
