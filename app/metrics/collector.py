"""Metric families that are read from plain counts at every scrape.

Counting is on the path of every webhook: `+= 1` on a Counter takes 0.2 us, prometheus_client's own
`labels().inc()` 1.8 us, and its counters would each add a `_created` series.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Kind: TypeAlias = type[CounterMetricFamily] | type[GaugeMetricFamily]

PREFIX = "agent_lifecycle_"

#: The key of the only value in a family without labels.
ONLY = ()


@dataclass(frozen=True)
class Family:
    """One line of docs/metrics.md."""

    name: str
    text: str
    labels: tuple[str, ...]
    #: Values by label values: a tuple, or a string for a single label.
    read: Callable[[], Mapping[Any, float]]
    kind: Kind = CounterMetricFamily


class Families(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The names alone, so that the registry can reject duplicates."""
        for family in self._families:
            yield family.kind(PREFIX + family.name, family.text, labels=family.labels)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for family in self._families:
            collected = family.kind(PREFIX + family.name, family.text, labels=family.labels)
            for key, value in sorted(family.read().items()):
                collected.add_metric((key,) if isinstance(key, str) else key, value)
            yield collected
