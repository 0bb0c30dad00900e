"""Metric families that are read from plain counts at every scrape, so that counting costs next to nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Kind: TypeAlias = type[CounterMetricFamily] | type[GaugeMetricFamily]

#: The key of the one value of a family without labels.
ONLY = ()


@dataclass(frozen=True)
class Family:
    """One line of docs/metrics.md."""

    name: str
    text: str
    labels: tuple[str, ...]
    #: Values by those of the labels: a tuple of them, or, where there is one label, a string.
    read: Callable[[], Mapping[Any, float]]
    kind: Kind = CounterMetricFamily


class Families(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The names alone, so that a registry can refuse a second one."""
        for family in self._families:
            yield family.kind(family.name, family.text, labels=family.labels)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for family in self._families:
            collected = family.kind(family.name, family.text, labels=family.labels)
            for key, value in sorted(family.read().items()):
                collected.add_metric((key,) if isinstance(key, str) else key, value)
            yield collected
