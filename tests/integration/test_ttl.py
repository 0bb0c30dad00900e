"""TTL: an agent that nobody needs ends when it passes, not before, whatever fails on the way."""

import logging
from dataclasses import dataclass

import pytest

from app.clock import SteadyClock
from app.errors import ServiceError
from devstack.truth import eventually
from fakes.clock import SECOND_US, START_US, FakeClock
from fakes.faults import REFUSED, TIMEOUT, UNAVAILABLE, UNREACHABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENTS, ON_BOTH, App, World

pytestmark = [pytest.mark.usefixtures("worker"), ON_BOTH]

TTL_S = 300


@pytest.fixture
async def idle(app: App, server: FakeServer) -> str:
    """An agent whose user has just left; the dispatch's id."""
    dispatch_id: str = (await app.dispatch()).body["dispatchId"]
    await app.advance(6)
    server.join("room")
    await app.advance(10)
    server.leave("room")
    await app.settle()
    assert await app.state() == "idle"
    return dispatch_id


def gone(world: World) -> bool:
    return not world.agents("room") and not world.dispatches("room")


async def end_reason(app: App, dispatch_id: str) -> str:
    answer = await app.call("GET", f"{AGENTS}/{dispatch_id}")
    return f"{answer.body['agent']['state']} {answer.body['agent']['endReason']}"


async def test_an_idle_agent_ends_with_its_ttl_and_not_before(app: App, world: World, idle: str) -> None:
    await app.pass_time(TTL_S - 0.001)
    assert await app.state() == "idle"
    assert len(world.agents("room")) == 1

    await app.pass_time(0.001)

    assert gone(world)
    assert await app.status() == {"hasAgent": False, "state": "none"}
    assert await end_reason(app, idle) == "ended expired"


async def test_a_timer_fires_by_itself(start_app: StartApp, world: World) -> None:
    """With the real clock, and no sweep for an hour."""
    app = await start_app(clock=SteadyClock(), agent_ttl_s=1)
    await app.dispatch()

    async def is_over() -> bool:
        return await app.state() == "none"

    await eventually(is_over, "the TTL ends it")
    assert gone(world)


@dataclass
class Machine:
    """An operator or NTP sets the machine's clock forward or back."""

    clock: FakeClock
    jump_s: int = 0

    def wall_ns(self) -> int:
        return (self.clock.now() + self.jump_s * SECOND_US) * 1_000

    def monotonic_ns(self) -> int:
        return (self.clock.now() - START_US) * 1_000

    def boot_clock(self) -> SteadyClock:
        """A new clock, as a process makes one at its start."""
        return SteadyClock(self.wall_ns, self.monotonic_ns)


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
async def test_a_jump_of_the_machines_clock_moves_no_ttl(
    start_app: StartApp, world: World, server: FakeServer, jump_s: int
) -> None:
    machine = Machine(world.clock)
    app = await start_app(clock=machine.boot_clock())
    await app.dispatch()
    server.join("room")
    await app.advance(6)
    server.leave("room")
    await app.settle()
    expires_at = (await app.status())["ttlExpiresAt"]
    await app.pass_time(100)
    machine.jump_s = jump_s

    await app.pass_time(TTL_S - 101)

    assert len(world.agents("room")) == 1
    assert (await app.status())["ttlExpiresAt"] == expires_at
    await app.pass_time(1)
    assert gone(world)


async def test_a_clock_jump_before_a_restart_ends_no_agent_with_people(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    """The remaining TTL is computed again then: only the agent of an empty room ends early."""
    machine = Machine(world.clock)
    app = await start_app(clock=machine.boot_clock())
    for room in ("room", "empty"):
        await app.dispatch(room)
    await app.advance(6)
    await app.stop()
    server.join("room")
    machine.jump_s = 3_600

    app = await start_app(clock=machine.boot_clock())
    await app.pass_time(1)

    assert len(world.agents("room")) == 1
    assert world.agents("empty") == []


async def test_a_dispatch_that_nobody_joins_ends_with_its_ttl(app: App, world: World) -> None:
    await app.dispatch()
    await app.advance(6)
    await app.pass_time(TTL_S - 7)
    assert await app.state() == "idle"

    await app.pass_time(1)

    assert gone(world)


async def test_a_returning_person_resets_the_ttl(
    app: App, world: World, server: FakeServer, idle: str
) -> None:
    await app.pass_time(TTL_S - 1)
    server.join("room", "bob")
    await app.pass_time(TTL_S)
    server.leave("room", "bob")
    await app.settle()
    await app.pass_time(TTL_S - 1)
    assert (await app.status())["dispatchId"] == idle

    await app.pass_time(1)

    assert gone(world)


async def test_while_somebody_stays_the_agent_stays(app: App, world: World, server: FakeServer) -> None:
    await app.dispatch()
    await app.advance(1)
    server.join("room")
    server.join("room", "bob")
    await app.settle()
    server.leave("room", "bob")
    for _ in range(30):
        await app.pass_time(3_600)

    assert await app.state() == "active"
    assert len(world.agents("room")) == 1


async def test_somebody_whose_join_was_lost_keeps_the_agent(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit, idle: str
) -> None:
    """LiveKit is asked before anything is deleted."""
    world.post.lossy = True
    server.join("room")
    # Reconcile would find the person too; here the deadline must.
    livekit.faults.always("list_rooms", FailBefore(UNAVAILABLE))

    await app.pass_time(TTL_S)

    assert (await app.status())["dispatchId"] == idle
    assert await app.state() == "active"
    assert (await app.status())["participantCount"] == 1
    assert world.agents("room")[0].answers("alice")


async def test_somebody_who_comes_during_the_removal_gets_an_agent(
    app: App, world: World, server: FakeServer, livekit: FakeLiveKit, idle: str
) -> None:
    del idle
    stuck = livekit.faults.hang("delete_dispatch")
    world.clock.advance(TTL_S)
    await app.service.sweeper.sweep()
    await stuck.reached.wait()
    server.join("room")
    for webhook in world.post.take():
        await app.deliver(webhook)
    stuck.release()
    await app.settle()
    await app.advance(6)

    assert await app.state() == "active"
    (agent,) = world.agents("room")
    assert agent.answers("alice")


@pytest.mark.parametrize("method", ["find_room", "list_participants", "delete_dispatch"])
@pytest.mark.parametrize("error", [UNREACHABLE, UNAVAILABLE, TIMEOUT, REFUSED], ids=lambda error: error.code)
async def test_a_failed_removal_is_counted_and_retried(
    start_app: StartApp,
    world: World,
    livekit: FakeLiveKit,
    method: str,
    error: ServiceError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Its retries all come before LiveKit closes the room by itself, at 360 s.
    app = await start_app(cleanup_interval_ms=10_000)
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    await app.advance(6)
    livekit.faults.always("list_rooms", FailBefore(UNAVAILABLE))
    livekit.faults.always(method, FailBefore(error))
    await app.pass_time(TTL_S - 6)
    for _ in range(2):
        await app.pass_time(10)
    (row,) = world.rows("dispatches")
    assert (row["state"], row["cleanup_failures"]) == ("idle", 3)
    levels = [record.levelno for record in caplog.records if "removal failed" in record.message]
    assert levels == [logging.WARNING, logging.WARNING, logging.ERROR]
    livekit.faults.mend()

    await app.pass_time(10)

    assert gone(world)
    assert await end_reason(app, dispatch_id) == "ended expired"


async def test_a_removal_whose_answer_is_lost_is_finished(
    app: App, world: World, livekit: FakeLiveKit, idle: str
) -> None:
    livekit.faults.script("delete_dispatch", FailAfter(TIMEOUT))

    await app.pass_time(TTL_S)
    await app.pass_time(1)

    assert gone(world)
    assert (await end_reason(app, idle)).startswith("ended")


async def test_the_dead_participant_of_a_killed_worker_is_removed(
    app: App, world: World, server: FakeServer, idle: str
) -> None:
    del idle
    await app.advance(TTL_S - 1)
    server.kill(server.workers[0])
    await app.pass_time(1)

    assert gone(world)


async def test_young_dispatches_leave_no_agent_behind(start_app: StartApp, world: World) -> None:
    """LiveKit ends a dispatch younger than 5 s only at the 5 s mark."""
    app = await start_app(agent_ttl_s=2)
    await app.dispatch()
    await app.advance(1)
    await app.pass_time(1)

    assert gone(world)


# Restarts


async def test_after_a_restart_the_deadline_is_where_it_was(
    app: App, start_app: StartApp, world: World, idle: str
) -> None:
    deadline = (await app.status())["ttlExpiresAt"]
    await app.pass_time(200)
    await app.stop()
    world.clock.advance(50)

    app = await start_app()

    assert (await app.status())["ttlExpiresAt"] == deadline
    await app.pass_time(49)
    assert (await app.status())["dispatchId"] == idle
    await app.pass_time(1)
    assert gone(world)


async def test_overdue_deadlines_are_acted_on_at_the_start(
    app: App, start_app: StartApp, world: World, idle: str
) -> None:
    await app.stop()
    world.clock.advance(TTL_S + 10)
    assert len(world.agents("room")) == 1

    app = await start_app()

    await app.settle()
    assert gone(world)
    assert await end_reason(app, idle) == "ended expired"


async def test_a_person_who_joined_while_the_service_was_down_keeps_the_agent(
    app: App, start_app: StartApp, world: World, server: FakeServer, idle: str
) -> None:
    await app.stop()
    world.post.lossy = True
    server.join("room")
    world.clock.advance(TTL_S + 10)

    app = await start_app()

    await app.settle()
    assert (await app.status())["dispatchId"] == idle
    assert await app.state() == "active"


async def test_a_person_who_left_while_the_service_was_down_starts_a_ttl(
    app: App, start_app: StartApp, world: World, server: FakeServer
) -> None:
    await app.dispatch()
    await app.advance(1)
    server.join("room")
    await app.settle()
    await app.stop()
    world.post.lossy = True
    server.leave("room")
    world.clock.advance(50)

    app = await start_app()

    assert await app.state() == "idle"
    await app.pass_time(TTL_S - 0.1)
    assert len(world.agents("room")) == 1
    await app.pass_time(0.1)
    assert gone(world)


async def test_a_removal_interrupted_by_a_crash_is_resumed(
    app: App, start_app: StartApp, world: World, livekit: FakeLiveKit, idle: str
) -> None:
    """The row is claimed, LiveKit was not called yet, and the process is gone."""
    stuck = livekit.faults.hang("delete_dispatch")
    world.clock.advance(TTL_S)
    await app.service.sweeper.sweep()
    await stuck.reached.wait()
    await app.stop()
    assert world.rows("dispatches")[0]["state"] == "ending"
    world.clock.advance(20)

    app = await start_app()

    await app.settle()
    assert gone(world)
    assert await end_reason(app, idle) == "ended expired"


async def test_the_row_follows_a_room_that_livekit_closed(
    app: App, world: World, server: FakeServer, idle: str
) -> None:
    server.delete_room("room")
    await app.settle()

    assert await end_reason(app, idle) == "ended room_finished"
    await app.pass_time(TTL_S)
    assert "room" not in world.livekit.server.rooms
