"""The Node worker of the examples, without the helper, on the real stack: how its agents are managed."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.fixture_types import Call, JoinRoom, StartService
from devstack.livekit_server import LiveKitServer
from devstack.npm import Npm, environment
from devstack.ports import free_port
from devstack.processes import Child
from devstack.truth import RoomTruth, eventually
from made_once import made_once

pytestmark = pytest.mark.real

EXAMPLE = Path(__file__).parents[2] / "examples" / "node_worker"
AGENT = "node-agent"
#: Node imports the SDK in the worker and in the process for the first job.
_REGISTERS_WITHIN_S = 60.0


@pytest.fixture(scope="session")
def installed_worker(tmp_path_factory: pytest.TempPathFactory) -> Npm:
    def install(folder: Path) -> None:
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
        npm = Npm(folder=folder, environ=environment())
        npm.run("ci", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")

    return Npm(folder=made_once(tmp_path_factory, "node-worker", install), environ=environment())


@pytest.fixture
async def worker(
    installed_worker: Npm, livekit_server: LiveKitServer, tmp_path: Path, children: list[Child]
) -> AsyncIterator[Child]:
    own = {
        "LIVEKIT_URL": livekit_server.url,
        "LIVEKIT_API_KEY": livekit_server.api_key,
        "LIVEKIT_API_SECRET": livekit_server.api_secret,
        "AGENT_NAME": AGENT,
        "PORT": str(free_port()),
    }
    node = shutil.which("node", path=installed_worker.environ["PATH"])
    assert node
    child = Child(
        "node worker",
        [node, str(installed_worker.folder / "worker.js"), "start"],
        log_file=tmp_path / "node-worker.log",
        env=dict(installed_worker.environ) | own,
    )
    children.append(child)
    child.start()
    await asyncio.to_thread(child.wait_for_line, "registered worker", timeout_s=_REGISTERS_WITHIN_S)
    yield child
    await asyncio.to_thread(child.stop, grace_s=0.5)
    children.remove(child)


@pytest.mark.usefixtures("worker")
async def test_an_agent_in_node_answers_is_reused_and_replaced_when_its_session_is_closed(
    start_service: StartService, call: Call, join_room: JoinRoom, truth: RoomTruth
) -> None:
    caller = await call(await start_service(agent_name=AGENT, AGENT_JOIN_TIMEOUT_SECONDS="30"))
    alice = await join_room(truth.name)

    first = await caller.request_agent(truth.name, wait="ready")
    assert (first.status, first.body["ready"], first.body["reused"]) == (200, True, False), first
    assert await alice.ask("hello") == "turn 1: hello"
    # It answers probes as a process that does not know the method: that is enough to be reused.
    again = await caller.request_agent(truth.name, wait="ready")
    assert (again.body["reused"], again.body["dispatchId"]) == (True, first.body["dispatchId"])
    assert await truth.has_one_agent()
    (known,) = await caller.agents(roomName=truth.name)
    assert known["agentIdentity"] in await truth.agents()

    await alice.leave()

    async def is_alone() -> bool:
        return bool((await caller.status(truth.name))["state"] == "idle")

    await eventually(is_alone, "the agent is alone")
    # Its session has closed with its user: whoever comes back needs another agent.
    back = await caller.request_agent(truth.name, wait="ready")
    assert (back.status, back.body["reused"]) == (200, False), back
    alice = await join_room(truth.name)
    await alice.wait_for_agents(1)
    assert await alice.ask("hello again") == "turn 1: hello again"
    assert await truth.has_one_agent()

    ended = await caller.end_agent(truth.name)
    assert ended.status == 200
    await eventually(truth.has_none, "the agent has left")
