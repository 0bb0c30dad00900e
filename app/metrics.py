"""What Prometheus is told: a registry of this service's own, so that two in one process do not collide."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from app.changes import Transition

_PREFIX = "agent_lifecycle"


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._transitions = Counter(
            f"{_PREFIX}_transitions", "Changes of dispatches", ["event", "to_state"], registry=self.registry
        )
        self._webhooks = Counter(
            f"{_PREFIX}_webhooks", "Signed webhooks taken", ["event", "result"], registry=self.registry
        )

    def count_webhook(self, name: str, result: str) -> None:
        """Count one signed webhook; `name` has to be one of a known few."""
        self._webhooks.labels(name, result).inc()

    def watch(self, *, drift: Mapping[str, int], withheld: Mapping[str, int]) -> None:
        """Report counts that others keep."""
        self.registry.register(_Counts(drift, withheld))

    def count_transition(self, transition: Transition) -> None:
        self._transitions.labels(transition.event, transition.after.state).inc()

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Counts(Collector):
    def __init__(self, drift: Mapping[str, int], withheld: Mapping[str, int]) -> None:
        self._drift = drift
        self._withheld = withheld

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, text, counts in (
            ("drift", "Differences from LiveKit's truth that were healed", self._drift),
            ("withheld", "Acts that LIFECYCLE_MODE withheld", self._withheld),
        ):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["kind"])
            for kind, count in sorted(counts.items()):
                family.add_metric([kind], count)
            yield family
