"""A hold on the real thing: whatever happens meanwhile, the agent comes back when it is resumed."""

import asyncio
import uuid

import pytest

from devstack.fixture_types import Call, Dispatch, JoinRoom, StartService, StartWorker
from devstack.truth import RoomTruth, eventually

pytestmark = pytest.mark.real


async def test_a_hold_survives_a_refresh_a_worker_and_the_service_and_the_resumed_agent_answers(
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    dispatch: Dispatch,
) -> None:
    agent_name = f"agent-{uuid.uuid4().hex[:6]}"
    worker = await start_worker(agent_name)
    service = await start_service(
        agent_name=agent_name,
        AGENT_RESTART="always",
        CLEANUP_INTERVAL_MS="1000",
        LIVENESS_INTERVAL_SECONDS="1",
    )
    caller = await call(service)
    dispatch_id = (await caller.request_agent(truth.name)).body["dispatchId"]
    person = await join_room(truth.name)
    await person.wait_for_agents(1)
    assert await person.ask("hello") == "turn 1: hello"

    held = await caller.call("POST", f"/api/livekit/agents/{dispatch_id}/hold")

    assert (held.status, held.body["state"]) == (200, "on_hold")
    assert await truth.agents() == []
    await eventually(truth.has_none, "the dispatch is gone too")
    # The human who has taken over, and a refresh.
    await join_room(truth.name, "human", microphone=False)
    await person.leave()
    assert (await caller.request_agent(truth.name)).body["state"] == "on_hold"
    person = await join_room(truth.name)
    # The worker dies, and another one takes its place.
    worker.kill()
    await start_worker(agent_name)
    # The service dies, and is back.
    await asyncio.to_thread(service.kill)
    await asyncio.to_thread(service.start)
    assert (await caller.request_agent(truth.name)).body["state"] == "on_hold"
    # The service looks after the room: a foreign agent leaves at once, perhaps before anybody has seen it.
    await dispatch(truth.name, agent_name)
    await eventually(truth.has_none, "the foreign agent and its dispatch are gone")
    status = await caller.status(truth.name)
    assert (status["state"], status["hasAgent"], status["participantCount"]) == ("on_hold", False, 2)

    resumed = await caller.call("POST", f"/api/livekit/agents/{dispatch_id}/resume")

    assert (resumed.status, resumed.body["reused"]) == (200, False)
    await person.ask_until_answered("are you back?", timeout_s=30)
    assert await truth.has_one_agent()
    assert await truth.dispatches() == [resumed.body["dispatchId"]]
