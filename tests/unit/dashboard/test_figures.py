"""The figures of the charts come from the counters that Prometheus is told."""

from prometheus_client import CollectorRegistry, Counter

from app.dashboard.figures import read_totals
from app.dashboard.history import Totals


def test_a_figure_is_the_sum_over_the_labels_it_does_not_name() -> None:
    registry = CollectorRegistry()
    cleanups = Counter("agent_lifecycle_cleanups", "-", ["result"], registry=registry)
    cleanups.labels("removed").inc(3)
    cleanups.labels("failed").inc(2)
    lines = Counter("agent_lifecycle_log_lines", "-", ["level", "result"], registry=registry)
    lines.labels("info", "written").inc(10)
    lines.labels("info", "dropped").inc(4)
    lines.labels("debug", "dropped").inc(1)
    Counter("agent_lifecycle_something_else", "-", registry=registry).inc()
    assert read_totals(registry) == Totals(cleanups=3, cleanup_failures=2, log_lines=15, log_dropped=5)


def test_a_figure_that_nobody_counts_is_nothing() -> None:
    assert read_totals(CollectorRegistry()) == Totals()
