"""Services forked from a warm process are known by their process ids, which the system gives again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.chaos.nursery import Nursery
from devstack.processes import Child

_NOT_CONFIGURED = 2


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def child(nursery: Nursery, folder: Path) -> Child:
    env = {"PATH": os.environ["PATH"]}
    return Child("service", ["-m", "app"], log_file=folder / "service.log", env=env, spawn=nursery.spawn)


def test_a_forked_service_has_its_own_environment_log_and_exit_code(nursery: Nursery, tmp_path: Path) -> None:
    service = child(nursery, tmp_path)
    service.start()
    assert service.wait(20) == _NOT_CONFIGURED
    service.stop()
    assert "LIVEKIT_URL is required" in service.output()


def test_a_process_id_that_comes_again_is_not_the_one_that_ended(nursery: Nursery, tmp_path: Path) -> None:
    nursery._ended = dict.fromkeys(range(4_194_304), -signal.SIGKILL)
    service = child(nursery, tmp_path)
    service.start()
    assert service.wait(20) == _NOT_CONFIGURED
    service.stop()
