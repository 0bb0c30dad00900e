"""Helm, which is built before the first test if it is not there."""

import pytest

from devstack.helm_build import find_or_build
from unit.deploy.chart import CASES, Helm, Object


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where the build can say how far it is; of several processes, one builds it and none could say it."""
    is_one_of_several = hasattr(session.config, "workerinput")
    wanted = any(isinstance(item, pytest.Function) and "helm" in item.fixturenames for item in session.items)
    if wanted and not session.config.option.collectonly and not is_one_of_several:
        writer = session.config.get_terminal_writer()
        find_or_build(lambda line: writer.line(line, yellow=True))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(find_or_build(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> dict[str, list[Object]]:
    """The objects of each case."""
    return {name: helm.render(values) for name, values in CASES.items()}
