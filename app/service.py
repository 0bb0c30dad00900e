"""The whole service without HTTP: every part made once and connected, started and stopped in order."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.alerts.model import Alerts
from app.alerts.monitor import AlertMonitor
from app.alerts.notifier import AlertNotifier
from app.alerts.rules import rules_for
from app.clock import Clock
from app.config.settings import Config
from app.control.dispatcher import Dispatcher
from app.control.effects import EffectRunner
from app.control.inspector import RoomInspector
from app.control.liveness import Liveness
from app.control.processor import ChangeProcessor
from app.control.readiness import Readiness
from app.control.reconciler import Reconciler
from app.control.sweeper import Sweeper
from app.control.timers import Timers
from app.dashboard.feed import Feed
from app.dashboard.figures import read_totals
from app.database.store import Store
from app.livekit.interface import LiveKit
from app.livekit.metered import MeteredLiveKit
from app.logs.counts import LogCounts
from app.logs.redaction import Redaction
from app.metrics.counters import Counters, SuppressedActions
from app.metrics.registry import Metrics, Readings
from app.state.changes import Advance, Change, Intent, Outcome, RoomEvent
from app.state.views import Deadline

logger = logging.getLogger(__name__)

#: How long what is under way may take at a stop, all together; what is left is found by its deadline at the
#: next start. With the time for requests under way it stays within the 10 s that platforms give.
_ERRANDS_GRACE_S = 4.0


@dataclass(frozen=True)
class Service:
    """The parts that requests are handed to."""

    livekit: LiveKit
    store: Store
    processor: ChangeProcessor
    timers: Timers
    effects: EffectRunner
    dispatcher: Dispatcher
    reconciler: Reconciler
    sweeper: Sweeper
    liveness: Liveness
    readiness: Readiness
    metrics: Metrics
    counters: Counters
    alert_monitor: AlertMonitor
    alert_notifier: AlertNotifier
    feed: Feed

    async def start(self) -> None:
        self.processor.start()
        count = await self.sweeper.restore()
        logger.info("The timers are restored", extra={"action": "restore", "count": count})
        self.sweeper.start()
        self.liveness.start()
        self.readiness.start()
        self.feed.start()

    async def stop(self) -> None:
        """Stop what begins work before what carries it out, and the writer last: it has the results."""
        await self.feed.close()
        await self.readiness.close()
        await self.liveness.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + _ERRANDS_GRACE_S
        for part in (self.sweeper, self.dispatcher, self.reconciler, self.effects):
            await part.close(max(0.0, until - loop.time()))
        await self.processor.close()


def build_service(
    config: Config, store: Store, livekit: LiveKit, clock: Clock, log_counts: LogCounts
) -> Service:
    """Connect the parts; what a commit entails is called back, since they need each other in a circle."""

    def follow_up(change: Change, outcome: Outcome) -> None:
        for transition in outcome.transitions:
            feed.note(transition.after)
        alert_monitor.take(change, outcome)
        if not isinstance(change, Advance | Intent):
            effects.spawn(outcome.effects)
        # A Snapshot is part of looking at the room: another look would find the same stranger for ever.
        if outcome.stranger and isinstance(change, RoomEvent):
            reconciler.spawn_inspection(change.room_name)

    def fire(deadline: Deadline) -> None:
        sweeper.act(deadline)

    mode, suppressed, counters = config.mode, SuppressedActions(), Counters(mode=config.mode)
    metrics = Metrics(counters, log_counts, clock, join_timeout_us=config.policy.join_timeout_us)
    livekit = MeteredLiveKit(livekit, counters, metrics)
    timers = Timers(clock, fire)
    processor = ChangeProcessor(store, timers, clock, config.policy, metrics, follow_up)
    inspector = RoomInspector(
        livekit, store, processor, clock, closes_with_user=config.agent_closes_with_user
    )
    effects = EffectRunner(
        livekit,
        store,
        processor,
        inspector,
        counters,
        mode=mode,
        suppressed=suppressed,
        room_timeout_s=config.room_timeout_s,
    )
    dispatcher = Dispatcher(
        livekit,
        store,
        processor,
        inspector,
        effects,
        counters,
        clock,
        mode=mode,
        suppressed=suppressed,
        room_timeout_s=config.room_timeout_s,
    )
    reconciler = Reconciler(
        livekit,
        store,
        processor,
        inspector,
        effects,
        dispatcher,
        mode=mode,
        suppressed=suppressed,
        agent_names=config.agent_names,
    )
    metrics.watch(
        Readings(
            agents=lambda: alert_monitor.agents,
            alerts=lambda: alert_monitor.active,
            queue_depth=lambda: processor.queue_depth,
            drift=reconciler.drift,
            withheld=suppressed.counts,
        )
    )
    sweeper = Sweeper(
        store,
        processor,
        timers,
        reconciler,
        inspector,
        clock,
        mode=mode,
        suppressed=suppressed,
        interval_s=config.cleanup_interval_ms / 1_000,
    )
    # An observer does not act on what a probe finds.
    liveness_s = config.liveness_interval_s if mode.keeps_one else 0
    liveness = Liveness(livekit, store, processor, effects, reconciler, clock, interval_s=liveness_s)
    readiness = Readiness(store, reconciler)
    alerts = Alerts(rules_for(config, started_at=clock.now()))
    alert_notifier = AlertNotifier(
        config.alert_webhook_url, processor.process_id[:8], counters, _hiding(config)
    )
    alert_monitor = AlertMonitor(alerts, store, counters, log_counts, clock, alert_notifier.send)
    feed = Feed(
        store,
        clock,
        totals=lambda: read_totals(metrics.registry),
        alerts=alerts.current,
        problem=lambda: str(reconciler.problem) if reconciler.problem else None,
    )
    return Service(
        livekit,
        store,
        processor,
        timers,
        effects,
        dispatcher,
        reconciler,
        sweeper,
        liveness,
        readiness,
        metrics,
        counters,
        alert_monitor,
        alert_notifier,
        feed,
    )


def _hiding(config: Config) -> Callable[[str], str]:
    """What is told of a room's name where everybody in a channel can read it."""
    return Redaction(config.livekit_key.secret).hide if config.log_redact else str
