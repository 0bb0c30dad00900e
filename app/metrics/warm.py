"""The metrics of the pools of warm agents, as their last rounds have found them."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily

from app.metrics.collector import Family
from app.state.views import WarmCounts


def warm_families(read: Callable[[], Iterable[WarmCounts]]) -> Sequence[Family]:
    return (
        Family(
            "warm_agents",
            "Warm agents by state as the database has them, for all replicas: take the max over these",
            ("agent", "state"),
            lambda: {(one.agent_name, state): n for one in read() for state, n in one.by_state.items()},
            GaugeMetricFamily,
        ),
        Family(
            "warm_agents_wanted",
            "How many warm agents are to wait, by the policy",
            ("agent",),
            lambda: {one.agent_name: one.wanted for one in read()},
            GaugeMetricFamily,
        ),
    )
