"""The metrics of workers that report themselves, as the database has them: autoscalers go by them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily

from app.metrics.collector import Family
from app.state.workers import AgentFleet


def worker_families(read: Callable[[], Iterable[AgentFleet]]) -> Sequence[Family]:
    def by_agent(value: Callable[[AgentFleet], int | None]) -> Callable[[], Mapping[str, float]]:
        def values() -> Mapping[str, float]:
            found = ((one.agent_name, value(one)) for one in read())
            return {name: number for name, number in found if number is not None}

        return values

    return (
        Family(
            "workers",
            "Workers that report themselves, by state",
            ("agent", "state"),
            lambda: {(one.agent_name, state): n for one in read() for state, n in one.workers.items()},
            GaugeMetricFamily,
        ),
        Family("worker_jobs", "Their jobs", ("agent",), by_agent(lambda one: one.active), GaugeMetricFamily),
        Family(
            "worker_slots",
            "How many jobs they take at once, without those that are drained",
            ("agent",),
            by_agent(lambda one: one.slots),
            GaugeMetricFamily,
        ),
        Family(
            "worker_slots_free",
            "How many jobs they would take more",
            ("agent",),
            by_agent(lambda one: one.free),
            GaugeMetricFamily,
        ),
        Family(
            "workers_desired",
            "How many workers are needed for all jobs, for what waits, and for WORKER_SPARE_SLOTS",
            ("agent",),
            by_agent(lambda one: one.desired),
            GaugeMetricFamily,
        ),
    )
