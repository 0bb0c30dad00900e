"""Services forked from a warm process are identified by process ids, which the system reuses."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.chaos.fork_server import ForkServer
from devstack.processes import Child

_NOT_CONFIGURED = 2


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[ForkServer]:
    fork_server = ForkServer(tmp_path)
    yield fork_server
    fork_server.close()


def child(fork_server: ForkServer, folder: Path) -> Child:
    env = {"PATH": os.environ["PATH"]}
    return Child("service", ["-m", "app"], log_file=folder / "service.log", env=env, spawn=fork_server.spawn)


def test_a_forked_service_has_its_own_environment_log_and_exit_code(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    service = child(fork_server, tmp_path)
    service.start()
    assert service.wait(20) == _NOT_CONFIGURED
    service.stop()
    assert "LIVEKIT_URL is required" in service.output()


def test_a_reused_process_id_is_not_the_process_that_ended(fork_server: ForkServer, tmp_path: Path) -> None:
    fork_server._ended = dict.fromkeys(range(4_194_304), -signal.SIGKILL)
    service = child(fork_server, tmp_path)
    service.start()
    assert service.wait(20) == _NOT_CONFIGURED
    service.stop()
