"""At most five agents, with two services as processes on one PostgreSQL and the real LiveKit."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from livekit import api

from devstack.callers import Answer, Caller
from devstack.fixture_types import StartService
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker
from fakes.databases import PostgresDatabase, PostgresServer

pytestmark = pytest.mark.real

MOST = 5
#: Longer than the test needs, and within the time limit of `Caller`.
WAIT_S = 25


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    with closing(postgres.create()) as database:
        yield database


@pytest.fixture
async def callers(
    database: PostgresDatabase, start_service: StartService, reusable_worker: Worker, tmp_path: Path
) -> AsyncIterator[tuple[Caller, Caller]]:
    """One of each of two services whose agent is limited."""
    file = tmp_path / "agents.toml"
    file.write_text(f"[defaults]\nmax_agents = {MOST}\n")
    services = [
        await start_service(
            agent_name=reusable_worker.agent_name, DATABASE_URL=database.url, AGENTS_FILE=str(file)
        )
        for _ in range(2)
    ]
    async with Caller(services[0].base_url) as first, Caller(services[1].base_url) as second:
        yield first, second
    await asyncio.gather(*(asyncio.to_thread(service.stop) for service in services))


async def rooms_with_agents(livekit_api: api.LiveKitAPI, rooms: list[str]) -> set[str]:
    truths = [RoomTruth(livekit_api, room) for room in rooms]
    return {truth.name for truth in truths if await truth.agents()}


async def test_twenty_calls_make_five_agents_and_those_that_wait_come_in_order(
    callers: tuple[Caller, Caller], database: PostgresDatabase, livekit_api: api.LiveKitAPI
) -> None:
    rooms = [f"capacity-{uuid.uuid4().hex[:8]}" for _ in range(20)]
    answers = await asyncio.gather(
        *(callers[number % 2].request_agent(room) for number, room in enumerate(rooms))
    )

    assert sorted(answer.status for answer in answers) == [200] * MOST + [429] * 15
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.body["code"] for answer in refused} == {"at_capacity"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    served = [room for room, answer in zip(rooms, answers, strict=True) if answer.status == 200]

    async def all_are_in() -> bool:
        return await rooms_with_agents(livekit_api, rooms) == set(served)

    await eventually(all_are_in, "the five agents are in, and no other")
    existing = await livekit_api.room.list_rooms(api.ListRoomsRequest(names=rooms))
    assert {room.name for room in existing.rooms} == set(served)

    queued: list[tuple[str, asyncio.Task[Answer]]] = []
    for number in range(4):
        room = f"capacity-{uuid.uuid4().hex[:8]}"
        asked = callers[number % 2].request_agent(room, waitS=WAIT_S)
        queued.append((room, asyncio.create_task(asked)))

        async def is_in_the_queue() -> bool:
            return len(database.query("SELECT id FROM claims")) == len(queued)

        await eventually(is_in_the_queue, "the call waits")
    for number, (room, call) in enumerate(queued):
        assert not any(later.done() for _, later in queued[number:])
        await callers[number % 2].end_agent(served.pop(0))
        answer = await call
        assert (answer.status, answer.body["queue"]["position"]) == (200, number + 1)
        served.append(room)
    rooms += [room for room, _ in queued]
    await eventually(all_are_in, "those that were served have the five agents")
