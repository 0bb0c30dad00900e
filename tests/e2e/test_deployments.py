"""Deployments on the real thing: the split of many rooms, and what happens when a canary's workers die."""

import asyncio
import uuid
from collections import Counter
from pathlib import Path

import pytest
from livekit import api

from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.truth import RoomTruth, eventually
from devstack.workers import DEPLOYMENT

pytestmark = pytest.mark.real

ROOMS, CANARY_PERCENT = 200, 10
#: Calls at once.
_AT_ONCE = 10


@pytest.fixture
def agent_name() -> str:
    """An agent of the test's own, so that no other worker takes its jobs."""
    return f"agent-{uuid.uuid4().hex[:6]}"


def write_policy(folder: Path, agent_name: str, *, canary_percent: int) -> str:
    file = folder / "agents.toml"
    listed = f'[{{name = "v2", weight = {canary_percent}}}, {{name = "v1"}}]'
    file.write_text(f"[agents.{agent_name}]\ndeployment = {listed}\n", encoding="utf-8")
    return str(file)


async def deployment_of(livekit_api: api.LiveKitAPI, room: str, dispatch_id: str) -> str:
    """As LiveKit has it."""
    listed = await livekit_api.agent_dispatch.list_dispatch(room)
    return next(dispatch.deployment for dispatch in listed if dispatch.id == dispatch_id)


async def test_the_rooms_are_split_by_weight(
    agent_name: str, start_service: StartService, livekit_api: api.LiveKitAPI, call: Call, tmp_path: Path
) -> None:
    service = await start_service(
        agent_name=agent_name,
        AGENTS_FILE=write_policy(tmp_path, agent_name, canary_percent=CANARY_PERCENT),
        # Nobody takes these jobs, and nothing takes over from them meanwhile.
        PUBLISHER_AGENTS=agent_name,
    )
    caller, slots = await call(service), asyncio.Semaphore(_AT_ONCE)
    # The same in each run: their places do not depend on chance.
    rooms = [f"split-{number}" for number in range(ROOMS)]

    async def dispatch(room: str) -> str:
        async with slots:
            answer = await caller.request_agent(room)
            return await deployment_of(livekit_api, room, answer.body["dispatchId"])

    try:
        split = Counter(await asyncio.gather(*map(dispatch, rooms)))
    finally:
        await asyncio.gather(
            *(livekit_api.room.delete_room(api.DeleteRoomRequest(room=room)) for room in rooms),
            return_exceptions=True,
        )

    share = CANARY_PERCENT / 100
    sigma = (ROOMS * share * (1 - share)) ** 0.5
    assert set(split) == {"v1", "v2"}
    assert abs(split["v2"] - ROOMS * share) <= 3 * sigma, split


async def test_when_the_canarys_worker_dies_the_other_deployment_takes_over(
    agent_name: str,
    start_worker: StartWorker,
    start_service: StartService,
    livekit_api: api.LiveKitAPI,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    tmp_path: Path,
) -> None:
    _, canary = await asyncio.gather(
        *(start_worker(agent_name, env={DEPLOYMENT: deployment}) for deployment in ("v1", "v2"))
    )
    file = write_policy(tmp_path, agent_name, canary_percent=100)
    service = await start_service(agent_name=agent_name, AGENTS_FILE=file, LIVENESS_INTERVAL_SECONDS="2")
    caller = await call(service)
    answer = await caller.request_agent(truth.name)
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"
    assert await deployment_of(livekit_api, truth.name, answer.body["dispatchId"]) == "v2"

    canary.kill()

    await person.ask_until_answered("anybody there?", timeout_s=45)
    await eventually(truth.has_one_agent, "one agent is left")
    (dispatch_id,) = await truth.dispatches()
    assert await deployment_of(livekit_api, truth.name, dispatch_id) == "v1"
    assert (await caller.status(truth.name))["state"] == "active"
