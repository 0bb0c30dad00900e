"""The metrics of the TTLs: in force, what they cost and what they save."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily

from app.lifecycle import SECOND_US
from app.metrics.collector import Family
from app.state.views import AgentTtl


def ttl_families(read: Callable[[], Iterable[AgentTtl]]) -> Sequence[Family]:
    return (
        Family(
            "ttl_seconds",
            "The TTL of new dispatches, and whether it was learned",
            ("agent", "source"),
            lambda: {(one.agent_name, one.source): one.ttl_us / SECOND_US for one in read()},
            GaugeMetricFamily,
        ),
        Family(
            "ttl_idle_seconds",
            "How long agents were alone after a visit in the last 7 days, for all replicas",
            ("agent",),
            lambda: {one.agent_name: one.idle_us / SECOND_US for one in read()},
            GaugeMetricFamily,
        ),
    )
