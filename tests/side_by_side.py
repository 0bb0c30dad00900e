"""The whole suite in several processes at once.

Tests on the real stack mostly wait, the others mostly compute: one process begins with those that compute,
the others with the real ones, each on a stack of its own. Tests that are named run in one process.
"""

from collections import deque
from collections.abc import Sequence

import pytest
from xdist.report import report_collection_diff
from xdist.workermanage import WorkerController

PROCESSES = 3
#: On the real stack; the dearest first, so that what is left for the end is short.
REAL = ("tests/e2e/", "tests/browser/", "tests/chaos/", "tests/contract/")
#: A process begins a test only when it knows the next one, whose fixtures it keeps.
_AHEAD = 2


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    option = config.option
    names_tests = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or option.keyword
    is_one_of_several = hasattr(config, "workerinput")
    if (
        not (names_tests or option.usepdb or is_one_of_several)
        and config.getoption("numprocesses", 0) is None
    ):
        option.numprocesses = PROCESSES


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> "Scheduler":
    return Scheduler(len(config.option.tx))


class Scheduler:
    """Hands out real tests one by one, and the others file by file; implements xdist's `Scheduling`."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._collected: dict[WorkerController, list[str]] = {}
        self._tests: list[str] = []
        #: What a process was given and has not finished, the one that runs first.
        self._given: dict[WorkerController, list[int]] = {}
        self._computing: WorkerController | None = None
        self._real: deque[list[int]] = deque()
        self._others: deque[list[int]] = deque()

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
        is_over = not self._real and not self._others
        return (
            self.collection_is_completed
            and is_over
            and all(len(one) < _AHEAD for one in self._given.values())
        )

    def add_node(self, node: WorkerController) -> None:
        self._given[node] = []
        if self._computing is None:
            self._computing = node

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._collected[node] = list(collection)

    def schedule(self) -> None:
        if not self._tests:
            (first, self._tests), *others = self._collected.items()
            for node, tests in others:
                if tests != self._tests:
                    raise pytest.UsageError(
                        report_collection_diff(self._tests, tests, first.gateway.id, node.gateway.id)
                    )
            self._divide()
        for node in self.nodes:
            self._give(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002 - xdist's
        self._given[node].remove(item_index)
        self._give(node)

    def mark_test_pending(self, item: str) -> None:
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what it has not begun, and give the test in which it died."""
        given = self._given.pop(node)
        if node is self._computing:
            self._computing = None
        if not given:
            return None
        crashed, *left = given
        self._others.extendleft([index] for index in reversed(left))
        for other in self.nodes:
            self._give(other)
        return self._tests[crashed]

    def _divide(self) -> None:
        files: dict[str, list[int]] = {}
        real: dict[str, list[list[int]]] = {folder: [] for folder in REAL}
        for index, test in enumerate(self._tests):
            folder = next((folder for folder in REAL if test.startswith(folder)), None)
            if folder:
                real[folder].append([index])
            else:
                files.setdefault(test.partition("::")[0], []).append(index)
        self._real.extend(unit for units in real.values() for unit in units)
        self._others.extend(files.values())

    def _give(self, node: WorkerController) -> None:
        while not node.shutting_down and len(self._given[node]) < _AHEAD:
            unit = self._next(node)
            if not unit:
                node.shutdown()
                return
            self._given[node] += unit
            node.send_runtest_some(unit)

    def _next(self, node: WorkerController) -> list[int]:
        """Of its own kind, or else of the other kind what is left at the end."""
        own, other = (self._others, self._real) if node is self._computing else (self._real, self._others)
        if own:
            return own.popleft()
        return other.pop() if other else []
