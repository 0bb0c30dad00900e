"""Warm agents on the real thing: a call gets one that has loaded, and everything holds for it."""

import asyncio
import uuid
from pathlib import Path

import aiohttp
import pytest
from livekit import api

from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.truth import RoomTruth, eventually

pytestmark = pytest.mark.real


async def test_a_warm_agent_answers_survives_the_service_and_ends_like_any_other(
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    livekit_api: api.LiveKitAPI,
    tmp_path: Path,
) -> None:
    agent_name = f"agent-{uuid.uuid4().hex[:6]}"
    file = tmp_path / "agents.toml"
    file.write_text(f'[agents."{agent_name}"]\nwarm = 1\n')
    await start_worker(agent_name)
    service = await start_service(agent_name=agent_name, AGENTS_FILE=str(file), CLEANUP_INTERVAL_MS="1000")
    caller = await call(service)

    async def held() -> dict[str, set[str]]:
        """The agents in holding rooms, by room."""
        rooms = (await livekit_api.room.list_rooms(api.ListRoomsRequest())).rooms
        names = [room.name for room in rooms if room.name.startswith("agent-warm.")]
        return {name: set(await RoomTruth(livekit_api, name).agents()) for name in names}

    async def one_waits() -> bool:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{service.base_url}/metrics") as answer,
        ):
            waiting = f'agent_lifecycle_warm_agents{{agent="{agent_name}",state="waiting"}} 1.0'
            return waiting in await answer.text()

    await eventually(one_waits, "one waits", timeout_s=30)
    person = await join_room(truth.name)
    granted = await caller.request_agent(truth.name)

    assert (granted.status, granted.body["source"], granted.body["state"]) == (200, "warm", "active")
    assert await person.ask("hello") == "turn 1: hello"
    (identity,) = await truth.agents()
    assert [identity in agents for agents in (await held()).values()].count(True) == 1

    # The service dies, and is back.
    await asyncio.to_thread(service.kill)
    await asyncio.to_thread(service.start)
    again = await caller.request_agent(truth.name)
    assert (again.body["source"], again.body["dispatchId"]) == ("reused", granted.body["dispatchId"])
    assert await person.ask("still there?") == "turn 2: still there?"
    await eventually(one_waits, "the next one waits", timeout_s=30)

    # Its database is lost: the agent with a person stays.
    await asyncio.to_thread(service.kill)
    for file in service.database.parent.glob(f"{service.database.name}*"):
        file.unlink()
    await asyncio.to_thread(service.start)
    after = await caller.request_agent(truth.name)
    assert (after.body["source"], after.body["dispatchId"]) == ("reused", granted.body["dispatchId"])
    assert await person.ask("and now?") == "turn 3: and now?"
    assert identity in await truth.agents()
    await eventually(one_waits, "the next one waits", timeout_s=30)

    # Its job ends from outside: people get the next one.
    (room,) = [name for name, agents in (await held()).items() if identity in agents]
    await livekit_api.room.delete_room(api.DeleteRoomRequest(room=room))

    async def is_another() -> bool:
        agents = await truth.agents()
        return len(agents) == 1 and agents != [identity]

    await eventually(is_another, "another agent is in", timeout_s=20)
    (identity,) = await truth.agents()

    assert (await caller.end_agent(truth.name)).status == 200
    assert await truth.agents() == []

    async def holding_room_is_gone() -> bool:
        return not any(identity in agents for agents in (await held()).values())

    await eventually(holding_room_is_gone, "its holding room is gone", timeout_s=10)
