"""The suite in several processes: each test runs once, in the process that it is for, also after a crash."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from side_by_side import Scheduler

REAL = [f"tests/e2e/test_it.py::test_{number}" for number in range(6)]
UNIT = [f"tests/unit/test_it.py::test_{number}" for number in range(4)]
DEAR = ["tests/integration/test_openapi.py::test_it"]


@dataclass(eq=False)
class Node:
    """What the scheduler sees of a process."""

    name: str
    computes: bool
    shutting_down: bool = False
    sent: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gateway = SimpleNamespace(id=self.name)
        self.workerinput = {"computes": self.computes}

    @property
    def tests(self) -> list[str]:
        return [*UNIT, *REAL, *DEAR] if self.computes else [*REAL, *UNIT]

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def nodes() -> list[Node]:
    return [Node("gw0", computes=True), Node("gw1", computes=False), Node("gw2", computes=False)]


@pytest.fixture
def scheduler(nodes: list[Node]) -> Scheduler:
    scheduler = Scheduler(len(nodes))
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, node.tests)
    scheduler.schedule()
    return scheduler


def run(scheduler: Scheduler, nodes: list[Node]) -> list[str]:
    """One test in each process in turn, as long as there are any."""
    ran = []
    while any(node.sent for node in nodes):
        for node in nodes:
            if node.sent:
                index = node.sent.pop(0)
                ran.append(node.tests[index])
                scheduler.mark_test_complete(node, index)
    return ran


def test_each_begins_with_its_own_kind(scheduler: Scheduler, nodes: list[Node]) -> None:
    assert scheduler.has_pending
    computing, *others = ([node.tests[index] for index in node.sent] for node in nodes)
    assert set(computing) <= {*UNIT, *DEAR}
    assert all(set(tests) <= set(REAL) for tests in others)


def test_every_test_runs_once_and_then_all_end(scheduler: Scheduler, nodes: list[Node]) -> None:
    assert sorted(run(scheduler, nodes)) == sorted([*REAL, *UNIT, *DEAR])
    assert scheduler.tests_finished
    assert not scheduler.has_pending
    assert all(node.shutting_down for node in nodes)


def test_what_a_dead_process_leaves_runs_elsewhere(scheduler: Scheduler, nodes: list[Node]) -> None:
    dead, *living = nodes
    crashed = scheduler.remove_node(dead)
    assert crashed == dead.tests[dead.sent[0]]
    successor = Node("gw3", computes=True)
    scheduler.add_node(successor)
    scheduler.add_node_collection(successor, successor.tests)
    scheduler.schedule()

    ran = run(scheduler, [*living, successor])

    assert sorted([*ran, crashed]) == sorted([*REAL, *UNIT, *DEAR])


def test_a_test_that_only_one_knows_is_an_error() -> None:
    scheduler = Scheduler(2)
    for name, tests in (("gw0", REAL), ("gw1", [*REAL[:-1], "tests/e2e/test_it.py::test_other"])):
        node = Node(name, computes=False)
        scheduler.add_node(node)
        scheduler.add_node_collection(node, tests)
    with pytest.raises(pytest.UsageError, match="test_other"):
        scheduler.schedule()
