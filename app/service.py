"""The whole service without HTTP: every part made once and connected, started and stopped in order."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.alerts.model import Alerts
from app.alerts.monitor import AlertWatch
from app.alerts.notifier import AlertPost
from app.alerts.rules import rules_for
from app.clock import Clock
from app.config.settings import Config
from app.control.dispatcher import Dispatches
from app.control.effects import Agents
from app.control.inspector import Examiner
from app.control.liveness import Liveness
from app.control.processor import Tracker
from app.control.readiness import Readiness
from app.control.reconciler import Reconciler
from app.control.sweeper import Cleaner
from app.control.timers import Timers
from app.dashboard.feed import Feed
from app.dashboard.figures import read_totals
from app.database.store import Store
from app.livekit.interface import LiveKit
from app.livekit.metered import MeteredLiveKit
from app.logs.counts import LogCounts
from app.logs.redaction import Redaction
from app.metrics.counters import Tally, Withheld
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
    tracker: Tracker
    timers: Timers
    agents: Agents
    dispatches: Dispatches
    reconciler: Reconciler
    cleaner: Cleaner
    liveness: Liveness
    readiness: Readiness
    metrics: Metrics
    tally: Tally
    alert_watch: AlertWatch
    alert_post: AlertPost
    feed: Feed

    async def start(self) -> None:
        self.tracker.start()
        count = await self.cleaner.restore()
        logger.info("The timers are restored", extra={"action": "restore", "count": count})
        self.cleaner.start()
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
        for part in (self.cleaner, self.dispatches, self.reconciler, self.agents):
            await part.close(max(0.0, until - loop.time()))
        await self.tracker.close()


def build_service(
    config: Config, store: Store, livekit: LiveKit, clock: Clock, log_counts: LogCounts
) -> Service:
    """Connect the parts; what a commit entails is called back, since they need each other in a circle."""

    def follow_up(change: Change, outcome: Outcome) -> None:
        for transition in outcome.transitions:
            feed.note(transition.after)
        alert_watch.take(change, outcome)
        if not isinstance(change, Advance | Intent):
            agents.spawn(outcome.effects)
        # A Snapshot is part of looking at the room: another look would find the same stranger for ever.
        if outcome.stranger and isinstance(change, RoomEvent):
            reconciler.spawn_inspection(change.room_name)

    def fire(deadline: Deadline) -> None:
        cleaner.act(deadline)

    mode, withheld, tally = config.mode, Withheld(), Tally(mode=config.mode)
    metrics = Metrics(tally, log_counts, clock, join_timeout_us=config.policy.join_timeout_us)
    livekit = MeteredLiveKit(livekit, tally, metrics)
    timers = Timers(clock, fire)
    tracker = Tracker(store, timers, clock, config.policy, metrics, follow_up)
    examiner = Examiner(livekit, store, tracker, clock, closes_with_user=config.agent_closes_with_user)
    agents = Agents(
        livekit,
        store,
        tracker,
        examiner,
        tally,
        mode=mode,
        withheld=withheld,
        room_timeout_s=config.room_timeout_s,
    )
    dispatches = Dispatches(
        livekit,
        store,
        tracker,
        examiner,
        agents,
        tally,
        clock,
        mode=mode,
        withheld=withheld,
        room_timeout_s=config.room_timeout_s,
    )
    reconciler = Reconciler(
        livekit,
        store,
        tracker,
        examiner,
        agents,
        dispatches,
        mode=mode,
        withheld=withheld,
        agent_names=config.agent_names,
    )
    metrics.watch(
        Readings(
            agents=lambda: alert_watch.agents,
            alerts=lambda: alert_watch.active,
            queue_depth=lambda: tracker.queue_depth,
            drift=reconciler.drift,
            withheld=withheld.counts,
        )
    )
    cleaner = Cleaner(
        store,
        tracker,
        timers,
        reconciler,
        examiner,
        clock,
        mode=mode,
        withheld=withheld,
        interval_s=config.cleanup_interval_ms / 1_000,
    )
    # An observer does not act on what a probe finds.
    liveness_s = config.liveness_interval_s if mode.keeps_one else 0
    liveness = Liveness(livekit, store, tracker, agents, reconciler, clock, interval_s=liveness_s)
    readiness = Readiness(store, reconciler)
    alerts = Alerts(rules_for(config, started_at=clock.now()))
    alert_post = AlertPost(config.alert_webhook_url, tracker.process_id[:8], tally, _hiding(config))
    alert_watch = AlertWatch(alerts, store, tally, log_counts, clock, alert_post.send)
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
        tracker,
        timers,
        agents,
        dispatches,
        reconciler,
        cleaner,
        liveness,
        readiness,
        metrics,
        tally,
        alert_watch,
        alert_post,
        feed,
    )


def _hiding(config: Config) -> Callable[[str], str]:
    """What is told of a room's name where everybody in a channel can read it."""
    return Redaction(config.livekit_key.secret).hide if config.log_redact else str
