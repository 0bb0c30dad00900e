"""`--first-cases`: every test runs, and none of them twice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from first_cases import pytest_collection_modifyitems


@dataclass(frozen=True)
class Item:
    nodeid: str
    marks: frozenset[str] = frozenset()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


ITEMS = [
    Item(nodeid)
    for nodeid in (
        "tests/test_a.py::test_one[0-sqlite]",
        "tests/test_a.py::test_one[1-sqlite]",
        "tests/test_a.py::test_two",
        "tests/test_b.py::test_one[[]",
        "tests/test_b.py::test_one[[[]",
    )
]


def choose(given: Sequence[Item] = ITEMS, *, first_cases: bool) -> tuple[list[Any], list[Any]]:
    """What runs and what does not."""
    deselected: list[Any] = []
    config = SimpleNamespace(
        option=SimpleNamespace(first_cases=first_cases),
        hook=SimpleNamespace(
            pytest_deselected=lambda items: deselected.extend(items)  # noqa: PLW0108 - pytest gives it by name
        ),
    )
    items: list[Any] = list(given)
    pytest_collection_modifyitems(cast("pytest.Config", config), items)
    return items, deselected


def test_each_test_runs_once() -> None:
    runs, deselected = choose(first_cases=True)
    assert runs == [ITEMS[0], ITEMS[2], ITEMS[3]]
    assert deselected == [ITEMS[1], ITEMS[4]]


def test_cases_that_are_paths_of_their_own_all_run() -> None:
    marked = [replace(item, marks=frozenset({"every_case"})) for item in ITEMS[:2]]
    runs, deselected = choose([*marked, *ITEMS[2:]], first_cases=True)
    assert runs == [*marked, ITEMS[2], ITEMS[3]]
    assert deselected == [ITEMS[4]]


def test_without_it_every_case_runs() -> None:
    assert choose(first_cases=False) == (ITEMS, [])
