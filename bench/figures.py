"""Measured figures with their references and goals, and the table of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Unit(StrEnum):
    PER_SECOND = "/s"
    MS = "ms"
    US = "us"
    S = "s"
    KB = "KB"
    MB = "MB"
    COUNT = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A median of repeated runs."""

    part: str
    what: str
    value: float
    unit: Unit
    #: What it is compared with in the same run; None without a comparison.
    reference: str | None = None
    reference_value: float | None = None
    #: The goal for the ratio if there is a reference, else for the value; None without a goal.
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference_value if self.reference_value else None

    @property
    def is_met(self) -> bool | None:
        """None without a goal."""
        held = self.value if self.ratio is None else self.ratio
        if self.at_least is not None:
            return held >= self.at_least
        return None if self.at_most is None else held <= self.at_most

    @property
    def goal(self) -> str:
        unit = " x" if self.ratio is not None else f" {self.unit}".rstrip()
        if self.at_least is not None:
            return f">= {self.at_least:g}{unit}"
        return f"<= {self.at_most:g}{unit}" if self.at_most is not None else ""


_HEADER = ("part", "what", "figure", "against", "ratio", "goal", "met")


def render(figures: Iterable[Figure]) -> str:
    """A table for a terminal."""
    rows = [_HEADER, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def write_json(figures: Sequence[Figure], file: Path) -> None:
    rows = [asdict(figure) | {"ratio": figure.ratio, "met": figure.is_met} for figure in figures]
    file.write_text(json.dumps(rows, indent=1) + "\n")


def _row(figure: Figure) -> tuple[str, ...]:
    against = figure.reference or ""
    if figure.reference_value is not None:
        against += f": {_number(figure.reference_value, figure.unit)}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
    met = {None: "", True: "yes", False: "NO"}[figure.is_met]
    return (figure.part, figure.what, _number(figure.value, figure.unit), against, ratio, figure.goal, met)


def _number(value: float, unit: Unit) -> str:
    digits = 0 if value >= 100 or unit is Unit.COUNT else 2  # noqa: PLR2004 - three significant digits
    separator = "" if unit is Unit.PER_SECOND else " "
    return f"{value:,.{digits}f}{separator}{unit}".rstrip()
