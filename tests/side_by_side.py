"""The whole suite in several processes at once.

Tests on the real stack mostly wait, the others mostly compute: one process begins with those that compute,
the others with the real ones, each on a stack of its own. Tests that are named run in one process.
"""

from collections import deque
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

#: More than a small machine has processors, since each one waits for a part of its time. With four, a slow
#: machine overran the limits that LiveKit, the service and the tests have in real time.
PROCESSES = 3
#: On the real stack; and the others. The dearest first, so that what is left for the end is short.
REAL = ("tests/e2e/", "tests/browser/", "tests/examples/", "tests/contract/", "tests/chaos/")
OTHERS = ("tests/simulation/", "tests/integration/", "tests/web/", "")
#: Collecting these takes many seconds of a processor: only the process that computes does it.
DEAR_TO_COLLECT = ("test_openapi.py",)
_COMPUTES = "computes"
#: The tests of a file go together, for what they share; but a process with many would be the last by minutes.
_TOGETHER = 20
#: A process begins a test only when it knows the next one, whose fixtures it keeps.
_AHEAD = 2


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    option = config.option
    names_tests = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or option.keyword
    is_one_of_several = hasattr(config, "workerinput")
    if names_tests or is_one_of_several or option.usepdb:
        return
    if config.getoption("numprocesses", 0) is None:
        option.numprocesses = PROCESSES


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    # The first one; and whichever takes the place of one that died, since it may be that one.
    number = int(node.gateway.id.removeprefix("gw"))
    node.workerinput[_COMPUTES] = number == 0 or number >= len(node.config.option.tx)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    given = getattr(config, "workerinput", {_COMPUTES: True})
    return True if collection_path.name in DEAR_TO_COLLECT and not given[_COMPUTES] else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> "Scheduler":
    return Scheduler(len(config.option.tx))


def _place(test: str) -> int:
    return next(place for place, folder in enumerate(OTHERS) if test.startswith(folder))


class Scheduler:
    """Hands out real tests one by one, the others by parts of files; implements xdist's `Scheduling`."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        #: The number of each test, in each process.
        self._collected: dict[WorkerController, dict[str, int]] = {}
        #: What a process was given and has not finished, the one that runs first.
        self._given: dict[WorkerController, list[str]] = {}
        self._is_divided = False
        self._real: deque[list[str]] = deque()
        self._others: deque[list[str]] = deque()

    @property
    def nodes(self) -> list[WorkerController]:
        return list(self._given)

    @property
    def collection_is_completed(self) -> bool:
        return len(self._collected) >= self._processes

    @property
    def has_pending(self) -> bool:
        return bool(self._real or self._others or any(self._given.values()))

    @property
    def tests_finished(self) -> bool:
        """Whether no process waits for more than the word that there is no more."""
        if not self.collection_is_completed or self._real or self._others:
            return False
        return all(len(given) < _AHEAD for given in self._given.values())

    def add_node(self, node: WorkerController) -> None:
        self._given[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._collected[node] = {test: number for number, test in enumerate(collection)}

    def schedule(self) -> None:
        if not self._is_divided:
            self._divide()
            self._is_divided = True
        for node in self.nodes:
            self._give(node)

    def mark_test_complete(
        self,
        node: WorkerController,
        item_index: int,
        duration: float = 0,  # noqa: ARG002 - xdist gives it
    ) -> None:
        (test,) = (one for one in self._given[node] if self._collected[node][one] == item_index)
        self._given[node].remove(test)
        self._give(node)

    def mark_test_pending(self, item: str) -> None:
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what it has not begun, and give the test in which it died."""
        given = self._given.pop(node)
        if not given:
            return None
        crashed, *left = given
        self._real.extendleft([test] for test in reversed(left))
        for other in self.nodes:
            self._give(other)
        return crashed

    def _divide(self) -> None:
        every = max(self._collected.values(), key=len)
        for node, tests in self._collected.items():
            if unknown := tests.keys() - every.keys():
                raise pytest.UsageError(f"only {node.gateway.id} has collected {sorted(unknown)}")
        self._real.extend([test] for folder in REAL for test in every if test.startswith(folder))
        others = sorted((test for test in every if not test.startswith(REAL)), key=_place)
        for _, group in groupby(others, key=lambda test: test.partition("::")[0]):
            file = list(group)
            self._others.extend(file[i : i + _TOGETHER] for i in range(0, len(file), _TOGETHER))

    def _give(self, node: WorkerController) -> None:
        while not node.shutting_down and len(self._given[node]) < _AHEAD:
            tests = self._next(node)
            if not tests:
                node.shutdown()
                return
            self._given[node] += tests
            node.send_runtest_some([self._collected[node][test] for test in tests])

    def _next(self, node: WorkerController) -> list[str]:
        """The next ones of its own kind, or what is left at the end of the other kind."""
        own, other = self._real, self._others
        if node.workerinput[_COMPUTES]:
            own, other = other, own
        for queue, tests in [*((own, one) for one in own), *((other, one) for one in reversed(other))]:
            if tests[0] in self._collected[node]:
                queue.remove(tests)
                return tests
        return []
