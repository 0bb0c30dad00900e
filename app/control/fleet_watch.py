"""The fleet watch: reads the workers' reports, and finds the agents of a worker that has died.

A report that does not come proves nothing: the way to the service may be cut while the way to LiveKit is not.
So an agent is replaced only if LiveKit has no answer from it either.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.clock import Clock
from app.control.drains import Drains
from app.control.fleet import Fleet
from app.control.liveness import Liveness
from app.database.workers import WorkersTable
from app.errors import ServiceError
from app.lifecycle import SECOND_US
from app.state.workers import Age, Worker
from app.tasks import BackgroundLoop, BackgroundTasks

logger = logging.getLogger(__name__)

#: Between two reads, with workers that report themselves and without.
_ROUND_S, _ROUND_WITHOUT_S = 0.5, 1.0
#: How often the figures are read that change slowly, and old workers are deleted.
_FIGURES_US, _PRUNE_US = 5 * SECOND_US, 60 * SECOND_US
#: How long a worker that is gone is kept: as long as its agents may be in rooms, with a margin.
_KEPT_US = 600 * SECOND_US
#: A job of the last moments may be in no report.
_LAST_MOMENTS_US = 5 * SECOND_US


class FleetWatch:
    def __init__(
        self,
        fleet: Fleet,
        table: WorkersTable,
        liveness: Liveness,
        drains: Drains,
        clock: Clock,
        *,
        probes: bool,
    ) -> None:
        """`probes`: whether the agents of a worker that may have died are probed."""
        self._fleet = fleet
        self._table = table
        self._liveness = liveness
        self._drains = drains
        self._clock = clock
        self._probes = probes
        self._figures_at = self._pruned_at = clock.now() - _PRUNE_US
        self._tasks = BackgroundTasks()
        self._loop = BackgroundLoop("fleet")

    def start(self) -> None:
        self._loop.start(self._run)

    async def close(self) -> None:
        await self._loop.close()
        await self._tasks.drain(0)

    async def step(self) -> None:
        """One round; raises DatabaseUnavailable."""
        await self._fleet.refresh()
        if not self._fleet.all_workers:
            return
        for worker in self._fleet.all_workers:
            if self._probes and worker.left_at is None and self._fleet.age_of(worker) in (Age.LATE, Age.GONE):
                await self._suspect(worker)
        if self._drains.has_work:
            self._tasks.spawn(self._drains.step(), "drains")
        now = self._clock.now()
        if now - self._figures_at >= _FIGURES_US:
            self._figures_at = now
            await self._fleet.refresh_demand()
        if now - self._pruned_at >= _PRUNE_US:
            self._pruned_at = now
            await self._table.prune(now - _KEPT_US)

    async def _suspect(self, worker: Worker) -> None:
        """Probe the agents of a worker whose report is late, once for all replicas."""
        if not self._fleet.is_new_suspect(worker) or not await self._table.suspect(worker):
            return
        found = await self._table.dispatches(worker.dispatch_ids)
        others = [one for one in self._fleet.workers if one.id != worker.id]
        reported = worker.dispatch_ids.union(*(one.dispatch_ids for one in others))
        since = worker.seen_at - _LAST_MOMENTS_US
        recent = await self._table.recent_dispatches(worker.agent_names, since)
        found += [one for one in recent if one.dispatch_id not in reported]
        logger.warning(
            "Worker has not reported in time; its agents are probed",
            extra={
                "action": "late_worker",
                "worker": worker.id,
                "agent": ", ".join(worker.agent_names),
                "deployment": worker.deployment,
                "count": len(found),
            },
        )
        if found:
            self._tasks.spawn(self._liveness.probe_suspects(found), "late worker")

    async def _run(self) -> None:
        while True:
            await _guarded(self.step)
            await asyncio.sleep(_ROUND_S if self._fleet.all_workers else _ROUND_WITHOUT_S)


async def _guarded(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except ServiceError as error:
        logger.warning(
            "Workers could not be read; the next round retries",
            extra={"action": "fleet", "code": error.code},
        )
