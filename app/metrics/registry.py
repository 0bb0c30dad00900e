"""What Prometheus is told: a registry of this service's own, so that two in one process do not collide."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from app.clock import Clock
from app.lifecycle import SECOND_US, Dispatch, Event, State
from app.logs.counts import LogCounts
from app.metrics.collector import ONLY, Families, Family
from app.metrics.counters import Counters
from app.state.changes import Transition

_PREFIX = "agent_lifecycle_"

#: What came of webhooks that were taken.
_TAKEN = frozenset({"applied", "stale", "ignored"})
_CLASSES = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_JOIN_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0)
_LIFETIME_S = (10.0, 30.0, 60.0, 180.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0)
_LAG_S = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0)
_CHANGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What is read from its owner at every scrape."""

    #: By state; none where the database could not be read.
    agents: Callable[[], Mapping[str, int]]
    #: 1 for each alert that is raised, 0 for every other.
    alerts: Callable[[], Mapping[str, int]]
    queue_depth: Callable[[], int]
    drift: Mapping[str, int]
    withheld: Mapping[str, int]


class Metrics:
    """The histograms, and whatever others count; docs/metrics.md has every name and label."""

    def __init__(
        self, counters: Counters, log_counts: LogCounts, clock: Clock, *, join_timeout_us: int
    ) -> None:
        self.registry = CollectorRegistry()
        self._commit_seconds = self._histogram("commit_seconds", "Time of one commit", _FAST_S)
        self._commit_changes = self._histogram("commit_changes", "Changes in one commit", _CHANGES)
        self.livekit_seconds = self._histogram(
            "livekit_call_seconds", "Time until LiveKit answered or was given up", _CALL_S, "method"
        )
        self._http_timers: dict[tuple[str, str], Histogram] = {}
        self._http_seconds = self._histogram(
            "http_request_seconds",
            "Time until an answer was ready, streams left out",
            _CALL_S,
            "method",
            "route",
        )
        self.loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes whoever asked to be woken", _FAST_S
        )
        self._webhook_lag_seconds = self._histogram(
            "webhook_lag_seconds", "From LiveKit's time of an event, in whole seconds, to its commit", _LAG_S
        )
        self._join_seconds = self._histogram(
            "agent_join_seconds", "From LiveKit's confirmation of a dispatch to its agent's being in", _JOIN_S
        )
        self._lifetime_seconds = self._histogram(
            "agent_lifetime_seconds", "From an agent's join to the end of its dispatch", _LIFETIME_S
        )
        self._counters = counters
        self._clock = clock
        self._join_timeout_us = join_timeout_us
        self.registry.register(Families(_tallied(counters)))
        self.registry.register(Families([_log_lines(log_counts)]))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def watch(self, readings: Readings) -> None:
        self.registry.register(Families(_read(readings)))

    def take(self, transitions: Sequence[Transition]) -> None:
        """Count and time what was committed."""
        self._counters.take(transitions)
        for transition in transitions:
            before, after = transition.before, transition.after
            if before and transition.event == Event.AGENT_IN and not before.agent_identity:
                self._join_seconds.observe(self._waited_us(before, after) / SECOND_US)
            if after.state is State.ENDED and after.agent_joined_at is not None:
                lived_us = (after.ended_at or 0) - after.agent_joined_at
                self._lifetime_seconds.observe(lived_us / SECOND_US)

    def note_webhook(self, event: str, result: str, sent_at: int | None) -> None:
        """Count a webhook: its event, one of a known few; what came of it; and when, by LiveKit's clock."""
        self._counters.webhooks[event, result] += 1
        if sent_at and result in _TAKEN:
            lag_us = max(0, self._clock.now() - sent_at)
            self._webhook_lag_seconds.observe(lag_us / SECOND_US)

    def note_request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request by its route's template; `seconds` None: a stream, whose end nobody waits for."""
        self._counters.http_requests[method, route, _CLASSES[status // 100]] += 1
        if seconds is not None:
            timer = self._http_timers.get((method, route))
            if timer is None:
                timer = self._http_timers[method, route] = self._http_seconds.labels(method, route)
            timer.observe(seconds)

    @contextmanager
    def commit(self, changes: int) -> Iterator[None]:
        """Count and time one commit of so many changes."""
        self._commit_changes.observe(changes)
        with self._counters.commit(), self._commit_seconds.time():
            yield

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the form that the Accept header asks for, and that form's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _waited_us(self, before: Dispatch, after: Dispatch) -> int:
        """The join deadline was set at the confirmation; without one the agent was faster than that."""
        if before.join_deadline_at is None or after.agent_joined_at is None:
            return 0
        return after.agent_joined_at - (before.join_deadline_at - self._join_timeout_us)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=buckets, registry=self.registry)


def _counter(name: str, text: str, counts: Mapping[Any, int], *labels: str) -> Family:
    return Family(_PREFIX + name, text, labels, lambda: counts)


def _single(name: str, text: str, read: Callable[[], int]) -> Family:
    return Family(_PREFIX + name, text, (), lambda: {ONLY: read()})


def _tallied(counters: Counters) -> Iterable[Family]:
    yield _counter(
        "dispatch_requests", "Calls for an agent, by what came of them", counters.requests, "result"
    )
    yield _counter(
        "dispatches_intended", "Decisions to make a dispatch, by their reason", counters.intended, "reason"
    )
    yield _single("dispatches_created", "Dispatches that LiveKit has made for us", lambda: counters.created)
    yield _single("dispatches_adopted", "Dispatches of others that were taken over", lambda: counters.adopted)
    yield _counter(
        "creation_failures", "Creations that failed, all tries included", counters.creation_failures, "code"
    )
    yield _counter(
        "dispatches_replaced", "Dispatches that another took over from at once", counters.replaced, "reason"
    )
    yield _counter("restarts", "Agents made anew because theirs was gone", counters.restarts, "cause")
    yield _counter(
        "dispatches_ended", "Dispatches that have ended, by their reason", counters.ended, "reason"
    )
    yield _counter("transitions", "Changes of dispatches", counters.transitions, "event", "to_state")
    yield _counter("cleanups", "Removals of agents, by what came of them", counters.cleanups, "result")
    yield _counter("probes", "Probes of agents, by their answer", counters.probes, "result")
    yield _counter("webhooks", "Webhooks, the refused ones included", counters.webhooks, "event", "result")
    yield _single(
        "commit_failures", "Commits that the database did not take", lambda: counters.commit_failures
    )
    yield _counter("livekit_calls", "Calls to LiveKit", counters.livekit_calls, "method", "result")
    yield _counter(
        "http_requests", "Requests, by route template", counters.http_requests, "method", "route", "status"
    )
    yield _counter("alert_posts", "Posts to ALERT_WEBHOOK_URL", counters.alert_posts, "result")


def _log_lines(counts: LogCounts) -> Family:
    def read() -> Counter[tuple[str, str]]:
        lines: Counter[tuple[str, str]] = Counter()
        for result in ("written", "dropped", "aggregated"):
            by_level: Mapping[str, int] = getattr(counts, result)
            lines.update({(level, result): count for level, count in by_level.items()})
        return lines

    return Family(
        _PREFIX + "log_lines", "Calls to the log, by what became of them", ("level", "result"), read
    )


def _read(readings: Readings) -> Iterable[Family]:
    yield _counter("drift", "Differences from LiveKit's truth that were healed", readings.drift, "kind")
    yield _counter("withheld", "Acts that LIFECYCLE_MODE withheld", readings.withheld, "kind")
    yield Family(
        _PREFIX + "agents",
        "Dispatches by state as the database has them, for all replicas: take the max over these",
        ("state",),
        readings.agents,
        GaugeMetricFamily,
    )
    yield Family(
        _PREFIX + "alert_active",
        "Whether an alert is raised in this replica",
        ("alert",),
        readings.alerts,
        GaugeMetricFamily,
    )
    yield Family(
        _PREFIX + "writer_queue_depth",
        "Submissions that wait for the next commit",
        (),
        lambda: {ONLY: readings.queue_depth()},
        GaugeMetricFamily,
    )
