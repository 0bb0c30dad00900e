"""The tenths of a soak: what grows shows between the first and the last."""

from array import array
from collections.abc import Iterable
from typing import TypeAlias

_TENTHS = 10

#: p50 and p99 in milliseconds.
Quantiles: TypeAlias = dict[str, float]


class Tenths:
    """Times, by the moment at which each began, or was due.

    So a late answer counts in the tenth that it was late for, also after the end.
    """

    def __init__(self, begins_s: float, duration_s: float) -> None:
        self._begins_s = begins_s
        self._tenth_s = duration_s / _TENTHS
        self._times_s = [array("d") for _ in range(_TENTHS)]

    def add(self, at_s: float, time_s: float) -> None:
        number = int((at_s - self._begins_s) // self._tenth_s) if self._tenth_s else _TENTHS
        if 0 <= number < _TENTHS:
            self._times_s[number].append(time_s)

    def quantiles(self) -> dict[str, Quantiles]:
        """Of the whole time, of its first tenth, and of its last."""
        everything = [time_s for tenth in self._times_s for time_s in tenth]
        return {
            "whole": _quantiles(everything),
            "first": _quantiles(self._times_s[0]),
            "last": _quantiles(self._times_s[-1]),
        }


def _quantiles(times_s: Iterable[float]) -> Quantiles:
    """Zero where nothing was measured."""
    ordered = sorted(times_s)
    if not ordered:
        return {"p50": 0.0, "p99": 0.0}
    last = len(ordered) - 1
    return {name: ordered[round(last * share)] * 1e3 for name, share in (("p50", 0.5), ("p99", 0.99))}
