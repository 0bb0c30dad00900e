"""A policy for each agent on the real thing: TTLs that differ, and a hang-up that is final."""

from pathlib import Path

import pytest
from livekit import api

from devstack.callers import Caller
from devstack.fixture_types import Call, JoinRoom, StartService
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, phone_token
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker

pytestmark = pytest.mark.real

FILE = """\
[agents.plain-agent]
unvisited_ttl_s = 3
[agents.reusable-agent]
phone_ttl_s = 0
"""


@pytest.fixture
async def caller(
    start_service: StartService, call: Call, tmp_path: Path, reusable_worker: Worker, plain_worker: Worker
) -> Caller:
    """Of a service for both agents, with a policy for each."""
    file = tmp_path / "agents.toml"
    file.write_text(FILE, encoding="utf-8")
    names = f"{reusable_worker.agent_name},{plain_worker.agent_name}"
    return await call(await start_service(agent_name=names, AGENTS_FILE=str(file)))


async def wait_for_state(caller: Caller, room: str, state: str) -> None:
    async def reached() -> bool:
        return bool((await caller.status(room))["state"] == state)

    await eventually(reached, f"state {state} in {room}")


async def test_two_agents_of_one_room_have_their_own_ttls(
    caller: Caller, truth: RoomTruth, plain_worker: Worker
) -> None:
    await caller.request_agent(truth.name)
    await wait_for_state(caller, truth.name, "idle")

    asked = await caller.request_agent(truth.name, agentName=plain_worker.agent_name)

    async def one_is_left() -> bool:
        return [agent["agentName"] for agent in await caller.agents(roomName=truth.name)] == [
            "reusable-agent"
        ]

    assert asked.body["reused"] is False
    assert len(await caller.agents(roomName=truth.name)) == 2
    await eventually(one_is_left, "the agent with the short TTL is gone")
    await eventually(truth.has_one_agent, "the other one has stayed")


async def test_a_hang_up_is_final_and_a_closed_tab_is_not(
    caller: Caller,
    livekit_server: LiveKitServer,
    livekit_api: api.LiveKitAPI,
    truth: RoomTruth,
    join_room: JoinRoom,
) -> None:
    by_phone, by_web = truth, RoomTruth(livekit_api, f"{truth.name}-web")
    for room in (by_phone, by_web):
        await caller.request_agent(room.name)
    token = phone_token(livekit_server, by_phone.name, "sip_+491234")
    phone = await Person().join(livekit_server.url, token)
    alice = await join_room(by_web.name)
    for person, room in ((phone, by_phone), (alice, by_web)):
        await person.wait_for_agents(1)
        await wait_for_state(caller, room.name, "active")

    await alice.leave()
    await wait_for_state(caller, by_web.name, "idle")
    await phone.leave()

    await wait_for_state(caller, by_phone.name, "none")
    await eventually(by_phone.has_none, "the agent of the telephone is gone")
    assert (await caller.status(by_web.name))["state"] == "idle"
    assert await by_web.has_one_agent()
