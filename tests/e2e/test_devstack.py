"""The stack the other end-to-end tests stand on, and the one LiveKit fact they all circle around."""

import asyncio
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from devstack.fixture_types import Dispatch, JoinRoom
from devstack.processes import Child
from devstack.relay import WebhookRelay
from devstack.workers import Worker

pytestmark = pytest.mark.real

_JOBS_AT_ONCE = 20


async def test_a_plain_agent_is_deaf_after_its_user_came_back(
    plain_worker: Worker, relay: WebhookRelay, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    """Present is not alive: the reason why an agent must never be reused unasked."""
    alice = await join_room(room_name)
    await dispatch(room_name, plain_worker.agent_name)
    await alice.wait_for_agents()
    assert await alice.ask("hello") == "turn 1: hello"

    await alice.leave()
    await relay.wait_for(room_name, "participant_left")
    again = await join_room(room_name)

    assert len(await again.wait_for_agents()) == 1
    with pytest.raises(TimeoutError):
        await again.ask("are you there", timeout_s=2)


@pytest.mark.usefixtures("relay")
async def test_a_worker_takes_all_jobs_that_come_at_once(
    reusable_worker: Worker, join_room: JoinRoom, room_name: str, dispatch: Dispatch
) -> None:
    """A worker counts a job that it has not launched yet as load, and LiveKit offers a full one nothing."""
    rooms = [f"{room_name}-{number}" for number in range(_JOBS_AT_ONCE)]
    people = [await join_room(room) for room in rooms]
    await asyncio.gather(*(dispatch(room, reusable_worker.agent_name) for room in rooms))
    # Each agent is a process that starts, and a small machine starts two at a time.
    await asyncio.gather(*(person.wait_for_agents(timeout_s=60) for person in people))
    assert "full capacity" not in reusable_worker.child.output()


async def test_the_relay_loses_what_it_is_told_to_lose(
    relay: WebhookRelay, join_room: JoinRoom, room_name: str
) -> None:
    alice = await join_room(room_name)
    joined = await relay.wait_for(room_name, "participant_joined")
    await alice.leave()
    left = await relay.wait_for(room_name, "participant_left")
    assert joined[0].body["participant"]["identity"] == "alice"
    assert left[0].body["participant"]["disconnectReason"] == "CLIENT_INITIATED"
    assert left[0].headers["Content-Type"] == "application/webhook+json"


def test_the_command_dev_runs_everything_and_leaves_nothing_behind(
    tmp_path: Path, children: list[Child]
) -> None:
    dev = Child(
        "dev",
        [sys.executable, "-m", "devstack", "--port", "0", "--livekit-port", "0", "--data-dir", str(tmp_path)],
        log_file=tmp_path / "dev.log",
        env=dict(os.environ) | {"PYTHONUNBUFFERED": "1"},
    )
    children.append(dev)
    try:
        dev.start()
        dev.wait_for_line("Ctrl-C stops everything", timeout_s=120)
        ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", dev.output())}
        assert len(ports) == 2
        assert all(_answers(port) for port in ports)
        dev.interrupt()
        assert dev.wait(timeout_s=20) == 0
        assert not any(_answers(port) for port in ports)
    finally:
        dev.stop(grace_s=20)
        children.remove(dev)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
