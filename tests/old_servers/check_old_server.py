"""What holds on a livekit-server that is older than the pinned one; not part of a plain `pytest`.

    LIVEKIT_SERVER_BIN=<a livekit-server> uv run pytest tests/old_servers/check_old_server.py

docs/compatibility.md has the versions that it was run with.
"""

import asyncio
import json

import pytest

from devstack.callers import Caller
from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.people import Person
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind

pytestmark = pytest.mark.real


async def visit(caller: Caller, join_room: JoinRoom, truth: RoomTruth, text: str) -> tuple[Person, str]:
    assert (await caller.request_agent(truth.name)).status == 200
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    return person, await person.ask(text, timeout_s=4)


async def test_what_is_missing_is_told(
    plain_worker: Worker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=plain_worker.agent_name)
    caller = await call(service)
    await caller.request_agent(truth.name)

    missing = (await caller.call("GET", "/readyz")).body["missing"]

    assert set(missing) <= {"probe", "attributes"}
    assert service.child.tail(lines=1_000).count("too old for a feature") == len(missing)


@pytest.mark.parametrize("kind", ["plain", "reusable"])
async def test_whoever_refreshes_is_answered_and_one_agent_is_left(
    kind: str,
    plain_worker: Worker,
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    worker = plain_worker if kind == "plain" else reusable_worker
    caller = await call(await start_service(agent_name=worker.agent_name))
    for number in range(3):
        person, answer = await visit(caller, join_room, truth, f"question {number}")
        assert answer.endswith(f"question {number}")
        await person.leave()
    await eventually(truth.has_one_agent, "one agent and one dispatch are left")


async def test_a_call_while_somebody_talks_costs_nobody_the_agent_and_an_end_ends_it(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(
        await start_service(agent_name=plain_worker.agent_name, LIVENESS_INTERVAL_SECONDS="1")
    )
    person, _ = await visit(caller, join_room, truth, "hello")
    await asyncio.sleep(0.5)
    guest = await join_room(truth.name, "bob")
    await guest.leave()
    for _ in range(2):
        assert (await caller.request_agent(truth.name)).body["reused"] is True
        # A round of what would be probes.
        await asyncio.sleep(1.5)
    assert await person.ask("still there?") == "turn 2: still there?"
    assert (await caller.end_agent(truth.name)).status == 200
    await eventually(truth.has_none, "the agent is gone")


async def test_a_successor_is_told_the_same(
    start_worker: StartWorker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    name = f"agent-of-{truth.name}"
    worker = await start_worker(name, kind=WorkerKind.TOLD)
    caller = await call(await start_service(agent_name=name))
    await caller.request_agent(truth.name, metadata={"customer": 4711})
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    worker.kill()
    await start_worker(name, kind=WorkerKind.TOLD)
    first = (await truth.dispatches())[0]

    async def succeeded() -> bool:
        if await truth.dispatches() == [first] or not await truth.has_one_agent():
            return False
        try:
            answer = await person.ask("/told", timeout_s=4)
        except TimeoutError:
            return False
        metadata, _, _ = json.loads(answer.partition("/told ")[2])
        return bool(json.loads(metadata) == {"customer": 4711})

    await eventually(succeeded, "the successor knows the same", timeout_s=60)
