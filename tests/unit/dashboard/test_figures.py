"""The figures of the charts, from Prometheus counters."""

from prometheus_client import CollectorRegistry, Counter

from app.dashboard.figures import read_totals
from app.dashboard.history import Totals


def test_a_figure_is_summed_over_its_other_labels() -> None:
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


def test_a_figure_without_samples_is_zero() -> None:
    assert read_totals(CollectorRegistry()) == Totals()
