"""The service without HTTP: its parts, and their start and stop order."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.alerts.monitor import AlertMonitor
from app.alerts.notifier import AlertNotifier
from app.clock import Clock
from app.control.agent_readiness import AgentReadiness
from app.control.call_queue import CallQueue
from app.control.dispatcher import Dispatcher
from app.control.effects import EffectRunner
from app.control.fleet_watch import FleetWatch
from app.control.holds import Holds
from app.control.learning import Learning
from app.control.liveness import Liveness
from app.control.memory import ConversationMemory
from app.control.policies import Policies
from app.control.policy_reload import PolicyReloader
from app.control.processor import ChangeProcessor
from app.control.queries import Queries
from app.control.readiness import Readiness
from app.control.ready_calls import ReadyCalls
from app.control.reconciler import Reconciler
from app.control.relief import Reliever
from app.control.sweeper import Sweeper
from app.control.timers import Timers
from app.control.usage import UsageLedger
from app.control.warm_pool import WarmPool
from app.control.worker_reports import WorkerReports
from app.control.workers import Workers
from app.dashboard.feed import Feed
from app.database.store import Store
from app.events.deliverer import Deliverer
from app.events.outbox import Outbox
from app.livekit.interface import LiveKit
from app.metrics.counters import Counters
from app.metrics.registry import Metrics

logger = logging.getLogger(__name__)

#: How long all work under way may take at a stop. The deadlines of its rows take up the rest at the next
#: start. Together with the time for open requests it stays within the 10 s that platforms give.
_DRAIN_GRACE_S = 3.0
#: However long the others took: what was delivered and is not stored is sent twice.
_DELIVERER_GRACE_S = 0.5
#: For the last commits: LiveKit sends the webhooks again that a database in trouble does not take by then.
_COMMIT_GRACE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts that the web server starts, stops and hands requests to."""

    clock: Clock
    livekit: LiveKit
    store: Store
    policies: Policies
    reloader: PolicyReloader
    processor: ChangeProcessor
    timers: Timers
    effects: EffectRunner
    dispatcher: Dispatcher
    call_queue: CallQueue
    #: See `links.pseudonyms`.
    pseudonym: Callable[[str], str]
    queries: Queries
    holds: Holds
    usage: UsageLedger
    memory: ConversationMemory
    outbox: Outbox
    deliverer: Deliverer
    reconciler: Reconciler
    reliever: Reliever
    sweeper: Sweeper
    learning: Learning
    liveness: Liveness
    agent_readiness: AgentReadiness
    warm_pool: WarmPool
    ready_calls: ReadyCalls
    fleet_watch: FleetWatch
    worker_reports: WorkerReports
    workers: Workers
    readiness: Readiness
    metrics: Metrics
    counters: Counters
    alert_monitor: AlertMonitor
    alert_notifier: AlertNotifier
    feed: Feed

    async def start(self) -> None:
        self.processor.start()
        await self.learning.refresh()
        count = await self.sweeper.restore()
        logger.info("Timers restored", extra={"action": "restore", "count": count})
        self.sweeper.start()
        self.liveness.start()
        self.fleet_watch.start()
        self.warm_pool.start()
        self.call_queue.start()
        self.readiness.start()
        self.feed.start()
        self.deliverer.start()
        await self.reloader.start()

    async def stop(self) -> None:
        """Stop what starts work, then what carries it out, then the commits: they store the results."""
        await self.feed.close()
        await self.reloader.close()
        await self.readiness.close()
        await self.fleet_watch.close()
        await self.warm_pool.close()
        await self.liveness.close()
        await self.call_queue.close()
        await self.agent_readiness.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + _DRAIN_GRACE_S
        for part in (self.sweeper, self.dispatcher, self.reconciler, self.effects):
            await part.close(max(0.0, until - loop.time()))
        await self.deliverer.close(max(_DELIVERER_GRACE_S, until - loop.time()))
        try:
            async with asyncio.timeout(_COMMIT_GRACE_S):
                await self.processor.close()
        except TimeoutError:
            logger.error(  # noqa: TRY400 - the traceback adds nothing
                "The last changes were not stored before the stop; the next start reads them from LiveKit",
                extra={"action": "stop"},
            )
