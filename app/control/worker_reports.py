"""Reports of workers: many are stored together, and each is answered with what its worker is to do."""

import asyncio

from app.clock import Clock
from app.control.fleet import Fleet
from app.database.workers import WorkersTable
from app.errors import ServiceError
from app.state.workers import Report


class WorkerReports:
    def __init__(self, table: WorkersTable, fleet: Fleet, clock: Clock) -> None:
        self._table = table
        self._fleet = fleet
        self._clock = clock
        self._turn = asyncio.Lock()
        #: Those that come while others are being written.
        self._waiting: dict[str, Report] = {}
        self._next: asyncio.Task[None] | None = None

    async def take(self, report: Report) -> bool:
        """Store a report, and return whether its worker is to take no more jobs.

        Raises:
            DatabaseUnavailable: it is not stored.
        """
        self._waiting[report.id] = report
        if self._next is None:
            self._next = asyncio.create_task(self._store_waiting(), name="worker reports")
        await asyncio.shield(self._next)
        return await self._fleet.must_drain(report.id)

    async def _store_waiting(self) -> None:
        async with self._turn:
            reports, self._waiting, self._next = tuple(self._waiting.values()), {}, None
            try:
                await self._table.put(reports, self._clock.now())
            except ServiceError:
                self._fleet.forgive()
                raise
            for report in reports:
                self._fleet.note(report)
