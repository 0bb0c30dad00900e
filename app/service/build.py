"""Makes the parts of the service, and connects them."""

from app.alerts.model import Alerts
from app.alerts.monitor import AlertMonitor
from app.alerts.notifier import AlertNotifier
from app.alerts.rules import rules_for
from app.clock import Clock
from app.config.settings import Config
from app.control.adoption import Adopter
from app.control.agent_readiness import AgentReadiness
from app.control.call_queue import CallQueue
from app.control.capacity import Capacity
from app.control.creation import Creator
from app.control.deployments import Deployments
from app.control.dispatcher import Dispatcher
from app.control.disputes import Disputes
from app.control.drains import Drains
from app.control.effects import EffectRunner
from app.control.features import Features
from app.control.fleet import Fleet
from app.control.fleet_watch import FleetWatch
from app.control.holds import Holds
from app.control.inspector import RoomInspector
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
from app.control.removal import Remover
from app.control.session_warnings import SessionWarner
from app.control.sweeper import Sweeper
from app.control.timers import Timers
from app.control.usage import UsageLedger
from app.control.warm_claims import WarmClaimer
from app.control.warm_keeper import WarmKeeper
from app.control.warm_pool import WarmPool
from app.control.worker_reports import WorkerReports
from app.control.workers import Workers
from app.dashboard.feed import Feed
from app.dashboard.figures import read_totals
from app.database.store import Store
from app.events.deliverer import Deliverer
from app.events.outbox import Outbox
from app.events.sender import Sender
from app.livekit.agent_tokens import AgentTokens
from app.livekit.interface import LiveKit
from app.livekit.metered import metered
from app.logs.counts import LogCounts
from app.logs.redaction import room_name_filter
from app.metrics.collector import Families
from app.metrics.counters import Counters, SuppressedActions
from app.metrics.events import event_families
from app.metrics.registry import Metrics
from app.metrics.ttls import ttl_families
from app.metrics.warm import warm_families
from app.metrics.workers import worker_families
from app.service.parts import Service
from app.state.links import pseudonyms


def build_service(
    config: Config, store: Store, livekit: LiveKit, clock: Clock, log_counts: LogCounts
) -> Service:
    """Make every part once and connect them."""
    mode, suppressed = config.mode, SuppressedActions()
    counters = Counters(
        mode=mode,
        agent_names=config.agent_names,
        event_endpoints=[endpoint.name for endpoint in config.event_endpoints],
    )
    policies = Policies(config.policies, config.lifecycle_policy)
    metrics = Metrics(counters, log_counts, clock)
    livekit = metered(livekit, counters, metrics)
    timers = Timers(clock, lambda deadline: sweeper.act(deadline))  # noqa: PLW0108 - it needs the timers first
    pseudonym = pseudonyms(config.livekit_api_secret)
    processor = ChangeProcessor(store, timers, clock, policies, metrics, pseudonym)
    deployments = Deployments(policies, clock)
    processor.subscribe(deployments.follow)
    inspector = RoomInspector(livekit, store, processor, clock)
    features = Features()
    fleet = Fleet(
        store.workers, policies, clock, admits=mode.keeps_one, spare_slots=config.worker_spare_slots
    )
    claimer = WarmClaimer(
        livekit,
        store,
        policies,
        AgentTokens(config.livekit_key, clock, livekit.now),
        counters,
        clock,
        mode=mode,
        on_claim=lambda: warm_pool.note_taken(),  # noqa: PLW0108 - it needs the pool first
        doubtful_dispatches=fleet.doubtful_dispatches,
    )
    creator = Creator(livekit, processor, counters, features, clock, policies, claimer)
    remover = Remover(livekit, store, processor, clock, mode=mode, suppressed=suppressed)
    warner = SessionWarner(livekit, store, processor, clock)
    effects = EffectRunner(livekit, store, processor, inspector, creator, remover, warner, mode=mode)
    agent_readiness = AgentReadiness(livekit, store, processor, effects, clock)
    adopter = Adopter(processor, store, clock)
    capacity = Capacity(store.claims, policies, fleet, processor, clock, mode=mode)
    call_queue = CallQueue(capacity, processor, counters, clock)
    dispatcher = Dispatcher(
        store,
        processor,
        inspector,
        effects,
        creator,
        remover,
        adopter,
        capacity,
        call_queue,
        counters,
        clock,
        mode=mode,
        suppressed=suppressed,
    )
    warm_pool = WarmPool(
        livekit,
        store,
        policies,
        WarmKeeper(livekit, store, policies, counters, clock),
        clock,
        mode=mode,
        agent_names=config.agent_names,
        draining_dispatches=fleet.draining_dispatches,
    )
    processor.subscribe(warm_pool.follow)
    reconciler = Reconciler(
        livekit,
        store,
        processor,
        inspector,
        effects,
        adopter,
        remover,
        Disputes(counters),
        warm_pool,
        mode=mode,
        suppressed=suppressed,
        agent_names=config.agent_names,
    )
    learning = Learning(store.returns, store.usage, policies, counters, clock)
    processor.subscribe(learning.follow)
    usage = UsageLedger(store.usage, clock, keep_days=config.usage_days)
    memory = ConversationMemory(
        store.memories,
        clock,
        counters,
        config.memory_keys or config.livekit_secrets,
        is_on=config.conversation_memory,
        ttl_s=config.memory_ttl_s,
    )
    deliverer = Deliverer(
        config.event_endpoints,
        store.events,
        store.deliveries,
        Sender(config.event_endpoints),
        counters,
        clock,
        processor.process_id,
    )
    processor.subscribe(deliverer.follow)
    outbox = Outbox(
        config.event_endpoints,
        store.events,
        store.deliveries,
        clock,
        counters,
        deliverer.wake,
        keep_days=config.event_days,
    )
    sweeper = Sweeper(
        store,
        processor,
        timers,
        reconciler,
        inspector,
        learning,
        usage,
        memory,
        outbox,
        clock,
        mode=mode,
        suppressed=suppressed,
        interval_s=config.cleanup_interval_ms / 1_000,
    )
    queries = Queries(store)
    # In `observe` nothing acts on the result of a probe.
    liveness_s = config.liveness_interval_s if mode.keeps_one else 0
    liveness = Liveness(
        livekit, store, processor, effects, reconciler, agent_readiness, clock, interval_s=liveness_s
    )
    reliever = Reliever(livekit, store, processor, effects, inspector, features)
    drains = Drains(store, fleet, reliever, clock, mode=mode)
    alerts = Alerts(rules_for(config, started_at=clock.now()))
    alert_notifier = AlertNotifier(
        config.alert_webhook_url,
        processor.process_id[:8],
        counters,
        room_name_filter(config.livekit_key.secret, is_on=config.log_redact),
    )
    alert_monitor = AlertMonitor(
        alerts, store, processor.outage, counters, log_counts, clock, alert_notifier.send, fleet.figures
    )
    processor.subscribe(alert_monitor.take)
    metrics.watch(
        agents=lambda: alert_monitor.agents,
        alerts=lambda: alert_monitor.active,
        queue_depth=lambda: processor.queue_depth,
        waiting=lambda: len(call_queue),
        drift=reconciler.drift,
        withheld=suppressed.counts,
        deployments=deployments.results,
        avoided=lambda: deployments.avoided,
    )
    of_all_replicas = (
        *ttl_families(learning.ttls),
        *worker_families(fleet.figures),
        *warm_families(warm_pool.counts),
        *event_families(lambda: deliverer.statuses, clock),
    )
    metrics.registry.register(Families(of_all_replicas))
    feed = Feed(
        store,
        clock,
        totals=lambda: read_totals(metrics.registry),
        alerts=alerts.current,
        ttls=learning.ttls,
        workers=fleet.states,
        warm=warm_pool.counts,
        endpoints=lambda: deliverer.statuses,
        problem=lambda: str(reconciler.problem) if reconciler.problem else None,
    )
    processor.subscribe(feed.follow)
    return Service(
        clock=clock,
        livekit=livekit,
        store=store,
        policies=policies,
        reloader=PolicyReloader(config, store, processor, policies, learning),
        processor=processor,
        timers=timers,
        effects=effects,
        dispatcher=dispatcher,
        call_queue=call_queue,
        pseudonym=pseudonym,
        queries=queries,
        holds=Holds(queries, processor, effects, dispatcher, reconciler.spawn_inspection),
        usage=usage,
        memory=memory,
        outbox=outbox,
        deliverer=deliverer,
        reconciler=reconciler,
        reliever=reliever,
        sweeper=sweeper,
        learning=learning,
        liveness=liveness,
        agent_readiness=agent_readiness,
        warm_pool=warm_pool,
        ready_calls=ReadyCalls(store, processor, dispatcher, agent_readiness, clock),
        fleet_watch=FleetWatch(fleet, store.workers, liveness, drains, clock, probes=liveness_s > 0),
        worker_reports=WorkerReports(store.workers, fleet, clock),
        workers=Workers(store.workers, fleet, clock),
        readiness=Readiness(livekit, store, processor.outage, reconciler, features),
        metrics=metrics,
        counters=counters,
        alert_monitor=alert_monitor,
        alert_notifier=alert_notifier,
        feed=feed,
    )
