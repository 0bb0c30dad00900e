"""Workers for operators: which ones there are, and orders to drain them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from app.clock import Clock
from app.control.fleet import Fleet
from app.database.workers import WorkersTable
from app.lifecycle import Dispatch
from app.state.workers import Drain, DrainOf, Worker, WorkerState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KnownWorker:
    worker: Worker
    state: WorkerState
    #: Whether an operator has ordered it.
    is_drained: bool
    #: The dispatches that a draining worker still has; None for others.
    left: Sequence[Dispatch] | None


@dataclass(frozen=True, kw_only=True)
class KnownWorkers:
    workers: Sequence[KnownWorker]
    drained_deployments: Sequence[str]


class Workers:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, table: WorkersTable, fleet: Fleet, clock: Clock) -> None:
        self._table = table
        self._fleet = fleet
        self._clock = clock

    async def known(self) -> KnownWorkers:
        """Those that are not gone, as the database has them now."""
        await self._fleet.refresh()
        workers = self._fleet.workers
        ids = self._fleet.draining_dispatches()
        left = await self._table.dispatches(ids) if ids else []
        return KnownWorkers(
            workers=[
                KnownWorker(
                    worker=worker,
                    state=self._fleet.state_of(worker),
                    is_drained=self._fleet.is_drained(worker),
                    left=[one for one in left if one.dispatch_id in worker.dispatch_ids]
                    if self._fleet.is_to_stop(worker)
                    else None,
                )
                for worker in workers
            ],
            drained_deployments=[one.name for one in self._fleet.drains if one.of is DrainOf.DEPLOYMENT],
        )

    async def drain_worker(self, worker_id: str) -> bool:
        """False if there is no such worker."""
        await self._fleet.refresh()
        if all(worker.id != worker_id for worker in self._fleet.workers):
            return False
        await self._order(DrainOf.WORKER, worker_id)
        return True

    async def drain_deployment(self, deployment: str) -> None:
        """It holds for workers of that deployment that come later too, until it is cancelled."""
        await self._order(DrainOf.DEPLOYMENT, deployment)

    async def cancel(self, of: DrainOf, name: str) -> None:
        if await self._table.cancel(of, name):
            logger.info("Drain cancelled", extra={"action": "drain", "target": f"{of} {name}"})
        await self._fleet.refresh()

    async def _order(self, of: DrainOf, name: str) -> None:
        await self._table.order(Drain(of=of, name=name, requested_at=self._clock.now()))
        logger.info("Drain ordered", extra={"action": "drain", "target": f"{of} {name}"})
        await self._fleet.refresh()
