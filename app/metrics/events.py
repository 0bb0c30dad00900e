"""The metrics of the endpoints that events are sent to, as the database has them."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily

from app.clock import Clock
from app.lifecycle import SECOND_US
from app.metrics.collector import Family
from app.state.deliveries import EndpointStatus, receiver_label

_OF_ALL = "for all replicas: take the max over these"


def event_families(read: Callable[[], Iterable[EndpointStatus]], clock: Clock) -> Sequence[Family]:
    def age_s(at: int | None) -> float:
        return 0.0 if at is None else max(0, clock.now() - at) / SECOND_US

    return (
        Family(
            "event_deliveries_waiting",
            f"Events that wait to be delivered, {_OF_ALL}",
            ("receiver",),
            lambda: {receiver_label(one.name): one.waiting for one in read()},
            GaugeMetricFamily,
        ),
        Family(
            "event_oldest_waiting_seconds",
            f"How long the oldest of them has waited; 0: none waits; {_OF_ALL}",
            ("receiver",),
            lambda: {receiver_label(one.name): age_s(one.waiting_since) for one in read()},
            GaugeMetricFamily,
        ),
        Family(
            "event_endpoint_failing_seconds",
            f"How long an endpoint has taken nothing although it was tried; 0: it works; {_OF_ALL}",
            ("receiver",),
            lambda: {receiver_label(one.name): age_s(one.health.failing_since) for one in read()},
            GaugeMetricFamily,
        ),
    )
