"""Metric families that are read from plain counts at every scrape.

Counting is on the path of every webhook: `+= 1` on a Counter takes 0.2 us, prometheus_client's own
`labels().inc()` 1.8 us and its `observe()` 2 us, and its metrics would each add a `_created` series.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

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


class Distribution:
    """How often values were observed, by bucket."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        #: The last one is for all above the bounds.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        # A value on a bound is in the bucket below it, as Prometheus counts.
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        bounds = (*map(floatToGoString, self._bounds), "+Inf")
        family.add_metric(labels, list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


class Histogram(Collector):
    """One distribution for each combination of label values."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> None:
        self._name = PREFIX + name
        self._text = text
        self._labels = labels
        self._bounds = bounds
        self._distributions: dict[tuple[str, ...], Distribution] = {}
        if not labels:
            self.of()

    def of(self, *values: str) -> Distribution:
        """The distribution for these values of the labels."""
        found = self._distributions.get(values)
        if found is None:
            found = self._distributions[values] = Distribution(self._bounds)
        return found

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The name alone, so that the registry can reject duplicates."""
        yield self._family()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        collected = self._family()
        for values, distribution in sorted(self._distributions.items(), key=lambda item: item[0]):
            distribution.add_to(collected, values)
        yield collected

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._labels)
