"""`--first-cases`: every test runs, and none of them twice."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from first_cases import pytest_collection_modifyitems


@dataclass(frozen=True)
class Item:
    nodeid: str


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


def choose(*, first_cases: bool) -> tuple[list[Any], list[Any]]:
    """What runs and what does not."""
    deselected: list[Any] = []
    config = SimpleNamespace(
        option=SimpleNamespace(first_cases=first_cases),
        hook=SimpleNamespace(
            pytest_deselected=lambda items: deselected.extend(items)  # noqa: PLW0108 - pytest gives it by name
        ),
    )
    items: list[Any] = list(ITEMS)
    pytest_collection_modifyitems(cast("pytest.Config", config), items)
    return items, deselected


def test_each_test_runs_once() -> None:
    runs, deselected = choose(first_cases=True)
    assert runs == [ITEMS[0], ITEMS[2], ITEMS[3]]
    assert deselected == [ITEMS[1], ITEMS[4]]


def test_without_it_every_case_runs() -> None:
    assert choose(first_cases=False) == (ITEMS, [])
