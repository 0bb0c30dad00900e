"""For all tests: what takes minutes is made before the first one, and with REQUIRE_ALL=1 none is skipped."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from devstack.fresh_app import REACT, TOOLS, add_examples, make_app, pack
from devstack.livekit_build import find_or_build
from devstack.npm import Npm


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(item.get_closest_marker("real") for item in session.items)
    if wanted and not session.config.option.collectonly:
        reporter = session.config.get_terminal_writer()
        find_or_build(lambda line: reporter.line(line, yellow=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _require(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _require(report)
    return report


def _require(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A skip is a failure where everything is said to be there."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REQUIRE_ALL") == "1":
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped with REQUIRE_ALL=1: {reason}"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package of web/, packed."""
    return pack(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def react_app(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Npm:
    """A fresh React app that has installed the package, with the examples of its README."""
    folder = tmp_path_factory.mktemp("react") / "app"
    source = Path(__file__).parent / "web" / "react_app"
    app = make_app(source, folder, package, ("livekit-client", *TOOLS, *REACT))
    add_examples(folder)
    return app
