"""Workers that report themselves, on the real thing: they are known, missed when they die, and drained."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from devstack.callers import Caller
from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.ports import LOOPBACK
from devstack.service import API_KEY
from devstack.truth import RoomTruth, eventually
from devstack.worker_options import MAX_JOBS
from devstack.workers import LIFECYCLE_URL

pytestmark = pytest.mark.real


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


async def known(caller: Caller) -> list[dict[str, Any]]:
    answer = await caller.call("GET", "/api/livekit/workers")
    assert answer.status == 200, answer
    workers: list[dict[str, Any]] = answer.body["workers"]
    return workers


async def eventually_known(caller: Caller, number: int, **fields: object) -> None:
    async def are_known() -> bool:
        found = [one for one in await known(caller) if fields.items() <= one.items()]
        return len(found) == number

    await eventually(are_known, f"{number} workers with {fields}")


async def test_a_worker_is_known_with_what_it_runs_until_it_is_stopped(
    agent_name: str, start_worker: StartWorker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    env = {LIFECYCLE_URL: service.base_url, MAX_JOBS: "3", "AGENT_VERSION": "1.4"}
    worker = await start_worker(agent_name, env=env, drain_timeout_s=1)
    await eventually_known(
        caller, 1, agentNames=[agent_name], version="1.4", slots=3, active=0, state="accepting", left=None
    )
    await caller.request_agent(truth.name)
    await eventually_known(caller, 1, active=1)

    worker.drain()
    await asyncio.to_thread(worker.child.wait, 30)

    # Its last words were that it leaves: it is not missed.
    assert await known(caller) == []


async def test_an_answering_agent_comes_when_a_worker_dies(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """Without a round of probes: LiveKit itself notices after 20 s."""
    service = await start_service(agent_name=agent_name, LIVENESS_INTERVAL_SECONDS="3600")
    caller = await call(service)
    reports = {LIFECYCLE_URL: service.base_url}
    victim = await start_worker(agent_name, env=reports)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    await start_worker(agent_name, env=reports)
    await eventually_known(caller, 2)

    victim.kill()

    await person.ask_until_answered("anybody there?", timeout_s=45)
    await eventually(truth.has_one_agent, "one agent is left")
    await eventually_known(caller, 1)


@asynccontextmanager
async def way_to(port: int) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """The URL of a way to a port of this machine, and what cuts it."""
    ends: set[asyncio.StreamWriter] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(65_536):
                writer.write(block)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        further_reader, further_writer = await asyncio.open_connection(LOOPBACK, port)
        ends.update((writer, further_writer))
        await asyncio.gather(carry(reader, further_writer), carry(further_reader, writer))

    def cut() -> None:
        server.close()
        for end in ends:
            end.close()

    server = await asyncio.start_server(connect, LOOPBACK, 0)
    yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}", cut
    cut()


async def test_an_agent_stays_when_only_the_service_cannot_hear_its_worker(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    async with way_to(service.port) as (url, cut):
        await start_worker(agent_name, env={LIFECYCLE_URL: url})
        await caller.request_agent(truth.name)
        person = await join_room(truth.name)
        await person.wait_for_agents(1)
        assert await person.ask("hello") == "turn 1: hello"
        await eventually_known(caller, 1, active=1)

        cut()

        await eventually_known(caller, 0)
        assert "its agents are probed" in service.child.output()
        assert await person.ask("still there?") == "turn 2: still there?"


async def test_drained_workers_take_no_jobs_their_idle_agents_end_and_the_command_waits_for_the_people(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    reports = {LIFECYCLE_URL: service.base_url}
    await start_worker(agent_name, env=reports)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    await eventually_known(caller, 1, active=1)

    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "drain", "--deployment", "", "--wait"),
        *("--url", service.base_url, "--api-key", API_KEY),
        stdout=asyncio.subprocess.PIPE,
    )

    await eventually_known(caller, 1, draining=True, accepting=False, state="draining")
    await start_worker(agent_name, env=reports)
    await eventually_known(caller, 1, state="accepting")
    # The conversation goes on there, and new ones begin elsewhere.
    assert await person.ask("hello") == "turn 1: hello"
    others = [f"{truth.name}-{number}" for number in range(3)]
    for room in others:
        await caller.request_agent(room)
    await eventually_known(caller, 1, active=3)
    (draining,) = [one for one in await known(caller) if one["draining"]]
    assert [one["roomName"] for one in draining["left"]] == [truth.name]

    assert command.returncode is None
    await person.leave()

    async with asyncio.timeout(30):
        out, _ = await command.communicate()
    assert command.returncode == 0
    assert f"1 left: {truth.name} (1 in)" in out.decode()
    await eventually_known(caller, 1, draining=True, active=0, left=[])
    await eventually(truth.has_none, "its agent has ended long before its TTL")
    for room in others:
        await caller.end_agent(room)


async def test_full_workers_leave_jobs_to_others_and_a_call_beyond_them_is_refused_at_once(
    agent_name: str, start_worker: StartWorker, start_service: StartService, truth: RoomTruth, call: Call
) -> None:
    service = await start_service(agent_name=agent_name)
    caller = await call(service)
    env = {LIFECYCLE_URL: service.base_url, MAX_JOBS: "1"}
    await asyncio.gather(start_worker(agent_name, env=env), start_worker(agent_name, env=env))
    await eventually_known(caller, 2, state="accepting")
    for room in (truth.name, f"{truth.name}-2"):
        assert (await caller.request_agent(room)).status == 200
    await eventually_known(caller, 2, active=1, state="full")

    answer = await caller.request_agent(f"{truth.name}-3")

    assert (answer.status, answer.body["code"]) == (429, "at_capacity")


async def test_a_redeploy_hands_conversations_over_and_nobody_notices(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    service = await start_service(agent_name=agent_name, CONVERSATION_MEMORY="on")
    caller = await call(service)
    reports = {LIFECYCLE_URL: service.base_url}
    old = await start_worker(agent_name, env=reports)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    [former] = [one.identity for one in await person.wait_for_agents(1)]
    assert await person.ask("hello") == "turn 1: hello"
    await start_worker(agent_name, env=reports)
    await eventually_known(caller, 2, state="accepting")

    # SIGTERM, as a platform sends it.
    old.drain()

    turn = 1
    while len(person.agents) != 1 or person.agents[0].identity == former:
        turn += 1
        await person.say(f"text {turn}.")
        assert await person.next_answer(timeout_s=20) == f"turn {turn}: text {turn}."
        assert turn < 2_000
    # The next one goes on, and no text was answered twice.
    assert await person.ask("the end") == f"turn {turn + 1}: the end"
    await asyncio.to_thread(old.child.wait, 30)
    await eventually(truth.has_one_agent, "one agent is left, and one dispatch")
