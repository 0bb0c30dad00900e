"""Calls that wait for an agent, on the real thing: they are answered when a question would be."""

import asyncio
from pathlib import Path

import pytest

from devstack.callers import Answer, Caller
from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.obedient_worker import CONNECT_FIRST
from devstack.truth import RoomTruth, eventually
from devstack.workers import STARTS_WITH, Worker, WorkerKind

pytestmark = pytest.mark.real

#: Three dispatches that nobody takes, 6 s each, with a margin.
_TOLD_WITHIN_S = 25.0


async def until_in(caller: Caller, room: str, call: asyncio.Task[Answer]) -> None:
    """Wait until the agent is in the room; its call must not have been answered by then."""

    async def is_in() -> bool:
        return call.done() or bool((await caller.status(room))["state"] in ("active", "idle"))

    await eventually(is_in, "the agent is in")
    assert not call.done(), call.result()


async def test_a_question_is_answered_at_once_after_the_answer(
    start_service: StartService,
    start_worker: StartWorker,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    tmp_path: Path,
) -> None:
    """The agent is in the room long before its session starts."""
    starts = tmp_path / "starts"
    worker = await start_worker("slow-agent", kind=WorkerKind.OBEDIENT, env={STARTS_WITH: str(starts)})
    service = await start_service(agent_name=worker.agent_name)
    caller = await call(service)
    person = await join_room(truth.name)
    fields = {"wait": "ready", "metadata": CONNECT_FIRST}
    waits = asyncio.create_task(caller.request_agent(truth.name, **fields))
    await until_in(caller, truth.name, waits)
    await person.wait_for_agents()
    assert (await caller.status(truth.name))["ready"] is False
    assert not waits.done()
    starts.touch()

    answer = await waits

    assert (answer.status, answer.body["ready"]) == (200, True), answer
    assert answer.body["readyAfterMs"] > 0
    assert await person.ask("hello") == "turn 1: hello"
    assert (await caller.status(truth.name))["ready"] is True
    again = await caller.request_agent(truth.name, **fields)
    assert (again.body["reused"], again.body["ready"]) == (True, True)


async def test_a_plain_agent_is_waited_for_until_it_answers(
    plain_worker: Worker, start_service: StartService, join_room: JoinRoom, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name=plain_worker.agent_name))
    person = await join_room(truth.name)

    answer = await caller.request_agent(truth.name, wait="ready")

    assert (answer.status, answer.body["ready"]) == (200, True), answer
    assert await person.ask("hello") == "turn 1: hello"


async def test_without_a_worker_the_call_is_told_so_in_bounded_time(
    start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    caller = await call(await start_service(agent_name="agent-without-a-worker"))

    async with asyncio.timeout(_TOLD_WITHIN_S):
        answer = await caller.request_agent(truth.name, wait="ready")

    assert (answer.status, answer.body["code"]) == (503, "no_worker")
