"""The figures of the charts, read from the Prometheus counters of docs/metrics.md."""

from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from app.dashboard.history import Totals

_PREFIX = "agent_lifecycle_"
#: The counter of each figure, summed over all labels except the given ones.
_FIGURES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "created": ("dispatches_created_total", {}),
    "fresh": ("dispatch_requests_total", {"result": "created"}),
    "reused": ("dispatch_requests_total", {"result": "reused"}),
    "replaced": ("dispatches_replaced_total", {}),
    "cleanups": ("cleanups_total", {"result": "removed"}),
    "cleanup_failures": ("cleanups_total", {"result": "failed"}),
    "drift": ("drift_total", {}),
    "log_lines": ("log_lines_total", {}),
    "log_dropped": ("log_lines_total", {"result": "dropped"}),
}


def read_totals(registry: CollectorRegistry) -> Totals:
    """Sum the samples of each figure; a figure without samples is 0."""
    totals = Counter[str]()
    for family in registry.collect():
        for sample in family.samples:
            name = sample.name.removeprefix(_PREFIX)
            for figure, (counter, labels) in _FIGURES.items():
                if name == counter and labels.items() <= sample.labels.items():
                    totals[figure] += int(sample.value)
    return Totals(**totals)
