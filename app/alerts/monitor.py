"""The alert monitor: checks the rules every few seconds, logs changes and passes them on."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from app.alerts.model import AlertChange, Alerts, Figures
from app.alerts.rules import STUCK_AFTER
from app.clock import Clock
from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import ServiceError
from app.lifecycle import Effect
from app.logs.counts import LogCounts
from app.metrics.counters import Counters
from app.state.changes import Change, Outcome, Snapshot
from app.state.presence import ParticipantKind
from app.state.views import AlertFacts
from app.state.workers import AgentFleet
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


class AlertMonitor:
    """One per replica: facts from the database are the same for all, the rest is this replica's own."""

    def __init__(
        self,
        alerts: Alerts,
        store: Store,
        outage: WriteOutage,
        counters: Counters,
        log_counts: LogCounts,
        clock: Clock,
        notify: Callable[[AlertChange], None],
        fleet: Callable[[], Sequence[AgentFleet]],
    ) -> None:
        """`notify` gets each change once; it must neither block nor raise."""
        self._fleet = fleet
        self._alerts = alerts
        self._store = store
        self._outage = outage
        self._counters = counters
        self._log_counts = log_counts
        self._clock = clock
        self._notify = notify
        self._newest_join_at: int | None = None
        self._facts: AlertFacts | None = None
        self._hurry = asyncio.Event()
        self._loop = BackgroundLoop("alerts")

    @property
    def agents(self) -> Mapping[str, int]:
        """Dispatches by state, as of the last check; empty if the database could not be read."""
        return self._facts.agents if self._facts else {}

    @property
    def active(self) -> Mapping[str, int]:
        """1 for each alert that is raised, 0 for every other."""
        raised = {alert.name for alert in self._alerts.current()}
        return {name: int(name in raised) for name in self._alerts.names}

    def start(self) -> None:
        self._loop.start(self._run)

    async def close(self) -> None:
        await self._loop.close()

    def take(self, change: Change, outcome: Outcome) -> None:
        """Note what a commit says about joins; check at once if it asks for an alert."""
        if isinstance(change, Snapshot):
            joins = [
                p.joined_at for p in change.participants if p.kind is ParticipantKind.PERSON and p.joined_at
            ]
            self._newest_join_at = max((*joins, self._newest_join_at or 0)) or None
        if any(effect is Effect.ALERT for effect, _ in outcome.effects):
            self._hurry.set()

    async def look(self) -> None:
        """Check all rules once."""
        self._facts = await self._read()
        for change in self._alerts.look(self._figures()):
            _log(change)
            self._notify(change)

    async def _read(self) -> AlertFacts | None:
        try:
            return await self._store.facts(STUCK_AFTER)
        except ServiceError:
            return None

    def _figures(self) -> Figures:
        cleanups, written, dropped = (
            self._counters.cleanups,
            self._log_counts.written,
            self._log_counts.dropped,
        )
        return Figures(
            at=self._clock.now(),
            facts=self._facts,
            commits_fail=self._outage.since_at is not None,
            file_problem=self._store.file.problem,
            cleanups=cleanups["removed"] + cleanups["failed"],
            cleanup_failures=cleanups["failed"],
            log_lines=written.total() + dropped.total(),
            log_drops=dropped.total(),
            failed_creations_in_a_row=self._counters.failed_creations_in_a_row,
            newest_join_at=self._newest_join_at,
            fleet=self._fleet(),
        )

    async def _run(self) -> None:
        while True:
            self._hurry.clear()
            try:
                await self.look()
            except Exception:
                logger.exception("Unexpected error while checking alerts", extra={"action": "alert"})
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_EVERY_S):
                await self._hurry.wait()
        except TimeoutError:
            pass


def _log(change: AlertChange) -> None:
    alert = change.alert
    fields = {"action": "alert", "alert": alert.name, "summary": alert.summary}
    if change.resolved_at is None:
        logger.error("Alert raised", extra={**fields, "advice": alert.advice})
    else:
        logger.warning("Alert resolved", extra=fields)
