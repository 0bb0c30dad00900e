"""A real conversation as another program hears of it: a service as a process, LiveKit, a worker, a person."""

from collections.abc import AsyncIterator

import pytest

from devstack.fixture_types import Call, JoinRoom, StartService
from devstack.truth import RoomTruth
from devstack.workers import Worker
from integration.event_receiver import SECRET, EventReceiver

pytestmark = pytest.mark.real


@pytest.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    """It checks each signature."""
    receiver = await EventReceiver().start()
    yield receiver
    await receiver.stop()


async def test_a_conversation_is_heard_of_in_order(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    receiver: EventReceiver,
) -> None:
    service = await start_service(
        agent_name=reusable_worker.agent_name, EVENT_WEBHOOKS=f"{receiver.url}#{SECRET}"
    )
    caller = await call(service)
    person = await join_room(truth.name)
    asked = await caller.request_agent(truth.name)
    await receiver.until(lambda: "ready" in receiver.types(truth.name))
    assert await person.ask("hello") == "turn 1: hello"
    await person.leave()
    await receiver.until(lambda: "idle" in receiver.types(truth.name))
    service.kill()
    service.start()

    caller = await call(service)
    again = await caller.request_agent(truth.name)
    assert again.body["reused"] is True
    await caller.end_agent(truth.name)
    await receiver.until(lambda: "ended" in receiver.types(truth.name))

    came = [one for one in receiver.taken if one.room == truth.name]
    # What was sent when the service was killed may have come twice.
    events = {one.id: one for one in came}
    types = [one.type.removeprefix("agent.") for one in events.values()]
    assert types == ["requested", "dispatched", "ready", "idle", "reused", "ended"]
    positions = [one.position for one in events.values()]
    assert positions == sorted(positions)
    ended = list(events.values())[-1].body["data"]
    assert (ended["dispatchId"], ended["reason"]) == (asked.body["dispatchId"], "requested")
