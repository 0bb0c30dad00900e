"""Conversations that survive their agents, on the real thing."""

import asyncio
import uuid
from pathlib import Path

import pytest

from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.people import Person
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker

pytestmark = pytest.mark.real

SECRET = "xylophone"
#: Quick to notice.
QUICK = {"LIVENESS_INTERVAL_SECONDS": "2", "CLEANUP_INTERVAL_MS": "2000", "CONVERSATION_MEMORY": "on"}


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


async def start_remembering(
    start_worker: StartWorker, service: Service, agent_name: str, *, drain_timeout_s: int = 3_600
) -> Worker:
    env = {"AGENT_LIFECYCLE_URL": service.base_url}
    return await start_worker(agent_name, drain_timeout_s=drain_timeout_s, env=env)


async def talk(service: Service, join_room: JoinRoom, truth: RoomTruth, call: Call) -> Person:
    """Somebody who has had two turns with the agent."""
    caller = await call(service)
    await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    assert await person.ask(f"my secret is {SECRET}") == f"turn 2: my secret is {SECRET}"
    return person


def agents_of(person: Person) -> set[str]:
    """The agents that a person sees: one that was removed may still be among them for a moment."""
    return {agent.identity for agent in person.agents}


async def ask_successor(person: Person, former: set[str], text: str) -> str:
    """Ask once the next agent is in: whatever it hears before its first answer would be a turn too."""

    async def is_in() -> bool:
        return bool(agents_of(person) - former)

    await eventually(is_in, "the next agent is in", timeout_s=45)
    return await person.ask(text, timeout_s=20)


@pytest.mark.parametrize("harm", ["kill", "freeze", "drain"])
async def test_the_next_agent_goes_on_with_the_conversation(
    harm: str,
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    """After a crash, in the place of a frozen agent, and after a redeploy of the workers."""
    service = await start_service(agent_name=agent_name, ready=True, **QUICK)
    victim = await start_remembering(start_worker, service, agent_name, drain_timeout_s=1)
    person = await talk(service, join_room, truth, call)
    former = agents_of(person)
    # Two, since a frozen worker goes on being given jobs: one in three then.
    await asyncio.gather(*(start_remembering(start_worker, service, agent_name) for _ in range(2)))
    {"kill": victim.kill, "freeze": victim.freeze, "drain": victim.drain}[harm]()
    if harm == "drain":
        await asyncio.to_thread(victim.child.wait, 30)

    assert await ask_successor(person, former, "anybody there?") == "turn 3: anybody there?"

    for part in service.database.parent.glob(f"{service.database.name}*"):
        assert SECRET.encode() not in part.read_bytes()
    if harm == "freeze":
        victim.thaw()
        await eventually(truth.has_one_agent, "the frozen agent has left")
        assert await person.ask("still there?") == "turn 4: still there?"


async def test_a_longest_session_is_not_the_end_of_the_conversation_and_delete_is(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    tmp_path: Path,
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(f"[agents.{agent_name}]\nmax_session_s = 10\nwarn_before_s = 0\n", encoding="utf-8")
    service = await start_service(agent_name=agent_name, ready=True, AGENTS_FILE=str(file), **QUICK)
    await start_remembering(start_worker, service, agent_name)
    caller = await call(service)
    person = await talk(service, join_room, truth, call)
    former = agents_of(person)

    async def is_over() -> bool:
        return bool((await caller.status(truth.name))["state"] == "none")

    await eventually(is_over, "the session is over")
    await caller.request_agent(truth.name)
    assert await ask_successor(person, former, "again") == "turn 3: again"

    former = agents_of(person)
    await caller.end_agent(truth.name)
    await caller.request_agent(truth.name)
    assert await ask_successor(person, former, "anew") == "turn 1: anew"
