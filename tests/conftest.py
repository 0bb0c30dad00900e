"""For all tests: what takes minutes is made before the first one, and not within its time limit."""

import pytest

from devstack.livekit_build import find_or_build


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(item.get_closest_marker("real") for item in session.items)
    if wanted and not session.config.option.collectonly:
        reporter = session.config.get_terminal_writer()
        find_or_build(lambda line: reporter.line(line, yellow=True))
