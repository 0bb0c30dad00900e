"""The longest session: the agent is warned, and ended with people in; nothing brings it back but a call."""

import json
from typing import Any

import pytest

from app.clock import SteadyClock
from app.config.agents import AgentPolicy
from app.lifecycle import Restart
from app.lifecycle.mode import Mode
from devstack.truth import eventually
from fakes.clock import SECOND_US
from fakes.faults import TIMEOUT, UNAVAILABLE, FailAfter, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.rooms import FakeAgent, FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, ON_BOTH, ON_POSTGRES, App, World

SESSION_S, WARN_BEFORE_S, JOIN_TIMEOUT_S = 600, 30, 15


def limited(**changes: Any) -> dict[str, AgentPolicy]:
    terms = {"max_session_s": SESSION_S, "warn_before_s": WARN_BEFORE_S} | changes
    return {AGENT: AgentPolicy(ttl_s=300, join_timeout_s=JOIN_TIMEOUT_S, **terms)}


@pytest.fixture
async def limited_app(start_app: StartApp) -> App:
    return await start_app(agents=limited())


async def begin(app: App, server: FakeServer) -> str:
    """A person in a room whose agent joins now; the dispatch's id."""
    dispatch_id: str = (await app.dispatch()).body["dispatchId"]
    server.join("room")
    await app.advance(0.4)
    assert await app.state() == "active"
    return dispatch_id


def told(agent: FakeAgent) -> list[int]:
    """For each warning that the agent has got, how much time it was told to have."""
    return [json.loads(warning)["endsInS"] for warning in agent.warnings]


async def ended(app: App, dispatch_id: str) -> tuple[str, str]:
    agent = (await app.call("GET", f"{AGENTS}/{dispatch_id}")).body["agent"]
    return agent["state"], agent["endReason"]


async def events(app: App, dispatch_id: str) -> list[str]:
    history = (await app.call("GET", f"{AGENTS}/{dispatch_id}")).body["history"]
    return [line["event"] for line in history]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_an_agent_is_warned_and_then_ended_with_people_in(
    limited_app: App, world: World, server: FakeServer
) -> None:
    dispatch_id = await begin(limited_app, server)
    (agent,) = world.agents("room")

    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S - 1)
    assert agent.warnings == []
    await limited_app.pass_time(1)
    ends_at = world.clock.now() + WARN_BEFORE_S * SECOND_US
    assert [json.loads(warning) for warning in agent.warnings] == [
        {"reason": "max_session", "endsInS": WARN_BEFORE_S, "endsAtMs": ends_at // 1_000}
    ]

    await limited_app.pass_time(WARN_BEFORE_S - 1)
    assert await limited_app.state() == "active"
    await limited_app.pass_time(1)

    assert (world.agents("room"), world.dispatches("room")) == ([], [])
    assert [one.identity for one in server.rooms["room"].people] == ["alice"]
    assert await ended(limited_app, dispatch_id) == ("ended", "max_session")
    assert len(agent.warnings) == 1
    assert (await events(limited_app, dispatch_id))[-4:] == [
        "warning_due",
        "warned",
        "session_over",
        "removed",
    ]


@pytest.mark.usefixtures("worker")
async def test_the_status_and_the_list_say_when_the_session_ends(
    limited_app: App, server: FakeServer
) -> None:
    async def told() -> set[tuple[str | None, bool]]:
        answers = (await limited_app.status(), (await limited_app.listed())[0])
        return {(one["sessionEndsAt"], one["endingSoon"]) for one in answers}

    await limited_app.dispatch()
    assert await told() == {(None, False)}
    server.join("room")
    await limited_app.advance(0.4)
    assert await told() == {("2027-01-15T08:10:00.400Z", False)}
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S)
    assert await told() == {("2027-01-15T08:10:00.400Z", True)}


async def test_without_a_limit_no_session_ends(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT)
    await begin(app, server)
    await app.pass_time(SESSION_S * 100)
    assert len(world.agents("room")) == 1
    status = await app.status()
    assert (status["sessionEndsAt"], status["endingSoon"]) == (None, False)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("restart", Restart)
async def test_nothing_brings_it_back_but_a_call(
    start_app: StartApp, world: World, server: FakeServer, restart: Restart
) -> None:
    app = await start_app(agents=limited(restart=restart))
    await begin(app, server)
    await app.pass_time(SESSION_S)
    assert world.agents("room") == []

    server.join("room", "bob")
    await app.settle()
    await app.service.liveness.probe_all()
    await app.pass_time(120)
    assert (world.agents("room"), await app.state()) == ([], "none")

    again = await app.dispatch()
    assert again.body["reused"] is False
    await app.advance(0.4)
    assert len(world.agents("room")) == 1
    ends_in_s = SESSION_S - 0.4
    await app.pass_time(ends_in_s)
    assert len(world.agents("room")) == 1
    await app.pass_time(1)
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_both_timers_outlive_a_restart(
    limited_app: App, start_app: StartApp, world: World, server: FakeServer
) -> None:
    dispatch_id = await begin(limited_app, server)
    (agent,) = world.agents("room")
    await limited_app.stop()
    world.clock.advance(SESSION_S - WARN_BEFORE_S + 5)

    app = await start_app(agents=limited())
    assert told(agent) == [WARN_BEFORE_S - 5]
    await app.stop()
    world.clock.advance(WARN_BEFORE_S)

    app = await start_app(agents=limited())
    assert world.agents("room") == []
    assert await ended(app, dispatch_id) == ("ended", "max_session")
    assert len(agent.warnings) == 1


@pytest.mark.usefixtures("worker")
async def test_the_timers_fire_by_themselves(start_app: StartApp, world: World, server: FakeServer) -> None:
    """With the real clock, and no sweep for an hour."""
    app = await start_app(clock=SteadyClock(), agents=limited(max_session_s=6, warn_before_s=3))
    await begin(app, server)
    (agent,) = world.agents("room")

    async def is_over() -> bool:
        return await app.state() == "none"

    await eventually(is_over, "its session is over")
    # The other tests ask how long before the end; here it depends on the machine.
    assert len(agent.warnings) == 1
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_warning_whose_answer_was_lost_is_repeated_until_it_is_answered(
    limited_app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    dispatch_id = await begin(limited_app, server)
    (agent,) = world.agents("room")
    livekit.faults.script("warn", FailAfter(TIMEOUT), FailBefore(UNAVAILABLE))

    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S)
    assert told(agent) == [30]
    await limited_app.pass_time(5)
    assert told(agent) == [30]
    await limited_app.pass_time(5)
    await limited_app.pass_time(5)
    assert told(agent) == [30, 20]
    assert len({json.loads(warning)["endsAtMs"] for warning in agent.warnings}) == 1
    assert (await events(limited_app, dispatch_id)).count("warned") == 1


async def test_a_frozen_agent_is_warned_until_its_end(
    limited_app: App, world: World, server: FakeServer, worker: FakeWorker, livekit: FakeLiveKit
) -> None:
    await begin(limited_app, server)
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S - 1)
    server.freeze(worker)
    for _ in range(WARN_BEFORE_S):
        await limited_app.pass_time(1)
        if livekit.count("warn") == 2:
            break
    assert livekit.count("warn") == 2
    assert world.rows("dispatches")[0]["warn_at"] is not None


async def test_a_plain_agent_is_ended_without_a_warning(
    limited_app: App, world: World, server: FakeServer, plain_worker: FakeWorker, livekit: FakeLiveKit
) -> None:
    assert not plain_worker.helper
    dispatch_id = await begin(limited_app, server)
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S)
    await limited_app.pass_time(10)
    assert livekit.count("warn") == 1
    assert "warned" in await events(limited_app, dispatch_id)

    await limited_app.pass_time(WARN_BEFORE_S - 10)
    assert world.agents("room") == []
    assert await ended(limited_app, dispatch_id) == ("ended", "max_session")


@pytest.mark.usefixtures("worker")
async def test_a_livekit_that_cannot_call_participants_is_asked_once(
    limited_app: App, world: World, server: FakeServer, livekit: FakeLiveKit
) -> None:
    server.has_probe = False
    await begin(limited_app, server)
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S)
    await limited_app.pass_time(10)
    assert livekit.count("warn") == 1
    await limited_app.pass_time(WARN_BEFORE_S - 10)
    assert world.agents("room") == []


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_successor_has_the_rest_of_the_session_and_is_warned_itself(
    limited_app: App, world: World, server: FakeServer
) -> None:
    await begin(limited_app, server)
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S + 1)
    (first,) = world.agents("room")
    assert told(first) == [29]
    # In its first moment the new agent cannot be reached.
    server.leave("room", first.identity, "CONNECTION_TIMEOUT")
    await limited_app.settle()
    world.clock.advance(0.4)
    (second,) = world.agents("room")
    second.connected = False
    await limited_app.settle()
    assert told(second) == []
    second.connected = True
    await limited_app.pass_time(5)
    assert told(second) == [24]

    await limited_app.pass_time(24)
    assert world.agents("room") == []
    row = world.rows("dispatches")
    assert {one["end_reason"] for one in row} == {"agent_failed", "max_session"}


async def test_an_agent_that_still_loads_is_warned_once_it_has_the_method(
    limited_app: App, world: World, server: FakeServer, plain_worker: FakeWorker
) -> None:
    await begin(limited_app, server)
    await limited_app.pass_time(SESSION_S - WARN_BEFORE_S + 1)
    (first,) = world.agents("room")
    server.leave("room", first.identity, "CONNECTION_TIMEOUT")
    await limited_app.settle()
    await limited_app.advance(0.4)
    (second,) = world.agents("room")
    plain_worker.helper = True
    await limited_app.pass_time(5)
    assert told(second) == [24]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.REUSE])
async def test_a_mode_that_ends_no_agent_ends_no_session(
    start_app: StartApp, world: World, server: FakeServer, livekit: FakeLiveKit, mode: Mode
) -> None:
    app = await start_app(agents=limited(), mode=mode)
    await begin(app, server)
    await app.pass_time(SESSION_S * 2)
    assert len(world.agents("room")) == 1
    assert livekit.count("warn") == 0
    assert (await app.status())["sessionEndsAt"] is None


@ON_POSTGRES
@pytest.mark.usefixtures("worker")
async def test_two_replicas_warn_once(start_app: StartApp, world: World, server: FakeServer) -> None:
    first = await start_app(agents=limited())
    second = await start_app(agents=limited())
    await begin(first, server)
    (agent,) = world.agents("room")
    world.clock.advance(SESSION_S - WARN_BEFORE_S)
    for app in (first, second):
        await app.sweep()
    assert told(agent) == [WARN_BEFORE_S]
    world.clock.advance(WARN_BEFORE_S)
    for app in (first, second):
        await app.sweep()
    assert world.agents("room") == []
