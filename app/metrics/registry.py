"""The metrics registry: one per service, so that two in a process do not collide."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from app.clock import Clock
from app.lifecycle import SECOND_US, Dispatch, Event, State
from app.logs.counts import LogCounts
from app.metrics.collector import ONLY, Distribution, Families, Family, Histogram
from app.metrics.counters import Counters
from app.state.changes import Transition
from app.tasks import BackgroundLoop

#: Results of accepted webhooks.
_TAKEN = frozenset({"applied", "stale", "ignored"})
_CLASSES = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_JOIN_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0)
_LIFETIME_S = (10.0, 30.0, 60.0, 180.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0)
_LAG_S = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0)
#: How often the lag is measured.
_LAG_EVERY_S = 1.0
_CHANGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Metrics:
    """The histograms and all other metrics; docs/metrics.md has every name and label."""

    def __init__(self, counters: Counters, log_counts: LogCounts, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._commit_seconds = self._distribution("commit_seconds", "Time of one commit", _FAST_S)
        self._commit_changes = self._distribution("commit_changes", "Changes in one commit", _CHANGES)
        self._livekit_seconds = self._histogram(
            "livekit_call_seconds", "Time until LiveKit answered or the call was given up", _CALL_S, "method"
        )
        self._http_seconds = self._histogram(
            "http_request_seconds",
            "Time until an answer was ready, without streams",
            _CALL_S,
            "method",
            "route",
        )
        self.loop_lag_seconds = self._distribution(
            "event_loop_lag_seconds", "How late the event loop wakes a sleeping task", _FAST_S
        )
        self._webhook_lag_seconds = self._distribution(
            "webhook_lag_seconds", "From LiveKit's time of an event, in whole seconds, to its commit", _LAG_S
        )
        self._join_seconds = self._distribution(
            "agent_join_seconds", "From LiveKit's confirmation of a dispatch to its agent's join", _JOIN_S
        )
        self._lifetime_seconds = self._distribution(
            "agent_lifetime_seconds", "From an agent's join to the end of its dispatch", _LIFETIME_S
        )
        self._counters = counters
        self._clock = clock
        log_lines = Family("log_lines", "Calls to the log, by result", ("level", "result"), log_counts.lines)
        self.registry.register(Families((*counters.families, log_lines)))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def watch(
        self,
        *,
        agents: Callable[[], Mapping[str, int]],
        alerts: Callable[[], Mapping[str, int]],
        queue_depth: Callable[[], int],
        waiting: Callable[[], int],
        drift: Mapping[str, int],
        withheld: Mapping[str, int],
        deployments: Mapping[tuple[str, str, str], int],
        avoided: Callable[[], Mapping[tuple[str, str], int]],
    ) -> None:
        """Read these from their owners at every scrape.

        `agents`: by state; empty if the database could not be read. `alerts`: 1 if raised, else 0.
        `deployments`: by agent name, deployment and result. `avoided`: 1 if passed over, else 0.
        """
        families = (
            Family("drift", "Differences from LiveKit that were corrected", ("kind",), lambda: drift),
            Family("withheld", "Actions that LIFECYCLE_MODE suppressed", ("kind",), lambda: withheld),
            Family(
                "deployment_dispatches",
                "Dispatches of the deployments that a policy lists, by result",
                ("agent", "deployment", "result"),
                lambda: deployments,
            ),
            Family(
                "deployment_avoided",
                "Whether rooms of a failing deployment get another one",
                ("agent", "deployment"),
                avoided,
                GaugeMetricFamily,
            ),
            Family(
                "agents",
                "Dispatches by state as the database has them, for all replicas: take the max over these",
                ("state",),
                agents,
                GaugeMetricFamily,
            ),
            Family(
                "alert_active",
                "Whether an alert is raised in this replica",
                ("alert",),
                alerts,
                GaugeMetricFamily,
            ),
            Family(
                "writer_queue_depth",
                "Submissions waiting for the next commit",
                (),
                lambda: {ONLY: queue_depth()},
                GaugeMetricFamily,
            ),
            Family(
                "capacity_waiting",
                "Calls that wait in this replica for a place for their agent",
                (),
                lambda: {ONLY: waiting()},
                GaugeMetricFamily,
            ),
        )
        self.registry.register(Families(families))

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

    def note_webhook(self, way: str, event: str, result: str, sent_at: int | None) -> None:
        """Count a webhook by way, event, one of a known few, and result; `sent_at` is by LiveKit's clock."""
        self._counters.webhook_ways[way] += 1
        self._counters.webhooks[event, result] += 1
        if sent_at and result in _TAKEN:
            lag_us = max(0, self._clock.now() - sent_at)
            self._webhook_lag_seconds.observe(lag_us / SECOND_US)

    def note_request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request by its route's template; `seconds` None: a stream, which is not timed."""
        self._counters.http_requests[method, route, _CLASSES[status // 100]] += 1
        if seconds is not None:
            self._http_seconds.of(method, route).observe(seconds)

    @contextmanager
    def commit(self, changes: int) -> Iterator[None]:
        """Count and time a commit of `changes`."""
        self._commit_changes.observe(changes)
        with self._counters.commit(), self._timed(self._commit_seconds):
            yield

    def livekit_call(self, method: str) -> AbstractContextManager[None]:
        """Time a call to LiveKit."""
        return self._timed(self._livekit_seconds.of(method))

    @contextmanager
    def _timed(self, seconds: Distribution) -> Iterator[None]:
        began_at = self._clock.now()
        try:
            yield
        finally:
            seconds.observe((self._clock.now() - began_at) / SECOND_US)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    @staticmethod
    def _waited_us(before: Dispatch, after: Dispatch) -> int:
        """0 without a join deadline, which is set at the confirmation: the agent was faster."""
        if before.join_deadline_at is None or after.agent_joined_at is None or after.terms is None:
            return 0
        return after.agent_joined_at - (before.join_deadline_at - after.terms.join_timeout_us)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(name, text, labels, bounds)
        self.registry.register(histogram)
        return histogram

    def _distribution(self, name: str, text: str, bounds: tuple[float, ...]) -> Distribution:
        return self._histogram(name, text, bounds).of()


class LoopLag:
    """Measures how late the event loop is: what blocks it delays every webhook and timer."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        """`observe` gets the lag in seconds, once a second."""
        self._observe = observe
        self._loop = BackgroundLoop("loop lag")

    def start(self) -> None:
        self._loop.start(self._run)

    async def close(self) -> None:
        await self._loop.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._observe(max(0.0, loop.time() - due_s))
