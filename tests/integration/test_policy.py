"""A policy for each agent: its TTLs, restarts, sessions and permissions, apart from those of other agents."""

from dataclasses import replace

import pytest

from app.config.agents import AgentPolicy, MemberEnd
from app.lifecycle import Restart
from fakes.server import CONNECTION_TIMEOUT_S, FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, DISPATCH, ON_BOTH, OTHER_AGENT, App, World, member_token

TTL_S, UNVISITED_S = 300, 60
PLAIN = AgentPolicy(ttl_s=TTL_S, join_timeout_s=15)
#: A hang-up is final, and what nobody visits ends early.
CALLER = replace(PLAIN, unvisited_ttl_s=UNVISITED_S, phone_ttl_s=0)


async def start(start_app: StartApp, server: FakeServer, policy: AgentPolicy) -> App:
    """The first agent with this policy, the other one without any of its own; both in the room."""
    for name in (AGENT, OTHER_AGENT):
        server.start_worker(name)
    app = await start_app(agents={AGENT: policy})
    for name in (AGENT, OTHER_AGENT):
        assert (await app.dispatch(agentName=name)).status == 200
    await app.advance(6)
    assert in_room(app.world) == {AGENT, OTHER_AGENT}
    return app


def in_room(world: World) -> set[str]:
    return {agent.agent_name for agent in world.agents("room")}


async def state(app: App, agent_name: str) -> str:
    return str((await app.status(agentName=agent_name))["state"])


@ON_BOTH
async def test_an_agent_that_nobody_visits_ends_early(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app, server, CALLER)
    await app.pass_time(UNVISITED_S - 6.001)
    assert in_room(world) == {AGENT, OTHER_AGENT}

    await app.pass_time(0.001)

    assert in_room(world) == {OTHER_AGENT}


async def test_once_somebody_has_come_the_ordinary_ttl_runs(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app, server, CALLER)
    server.join("room")
    await app.advance(10)
    server.leave("room")
    await app.settle()
    await app.pass_time(TTL_S - 0.001)
    assert in_room(world) == {AGENT, OTHER_AGENT}

    await app.pass_time(0.001)

    assert in_room(world) == set()


@ON_BOTH
async def test_a_hang_up_is_final_for_the_agent_whose_policy_says_so(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app, server, CALLER)
    server.join("room", "+491234", is_phone=True)
    await app.advance(10)
    assert await state(app, AGENT) == "active"

    server.leave("room", "+491234")
    await app.settle()
    await app.pass_time(0)

    assert in_room(world) == {OTHER_AGENT}
    assert await state(app, AGENT) == "none"
    await app.pass_time(TTL_S - 0.001)
    assert in_room(world) == {OTHER_AGENT}


async def test_a_hang_up_beside_people_of_the_web_is_not(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start(start_app, server, CALLER)
    server.join("room", "alice")
    server.join("room", "+491234", is_phone=True)
    await app.advance(10)
    server.leave("room", "alice")
    server.leave("room", "+491234")
    await app.settle()

    await app.pass_time(TTL_S - 0.001)

    assert in_room(world) == {AGENT, OTHER_AGENT}


async def test_a_caller_whose_webhooks_were_lost_is_known_by_kind(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    """LiveKit lists the kind of everybody who is in."""
    app = await start(start_app, server, CALLER)
    world.post.lossy = True
    server.join("room", "+491234", is_phone=True)
    await app.pass_time(10)
    assert await state(app, AGENT) == "active"

    server.leave("room", "+491234")
    await app.pass_time(1)
    await app.pass_time(0)

    assert in_room(world) == {OTHER_AGENT}


async def test_each_agent_has_its_own_join_timeout(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    slow = replace(PLAIN, join_timeout_s=100)
    app = await start_app(agents={AGENT: slow})
    for name in (AGENT, OTHER_AGENT):
        server.start_worker(name, joins_after_s=1_000)
        await app.dispatch(agentName=name)

    deadlines = {row["agent_name"]: row["join_deadline_at"] for row in world.rows("dispatches")}

    assert deadlines[AGENT] - deadlines[OTHER_AGENT] == 85_000_000


@pytest.mark.parametrize(("restart", "comes_back"), [(Restart.NEVER, set()), (Restart.ON_FAILURE, {AGENT})])
async def test_each_agent_has_its_own_rule_for_restarts(
    start_app: StartApp, world: World, server: FakeServer, restart: Restart, comes_back: set[str]
) -> None:
    app = await start(start_app, server, replace(PLAIN, restart=restart))
    server.join("room")
    await app.advance(1)
    for worker in tuple(server.workers):
        server.kill(worker)
        server.start_worker(worker.agent_name)

    # Until LiveKit notices that their connections are gone, and the successor is in.
    await app.advance(CONNECTION_TIMEOUT_S)
    await app.advance(6)

    assert in_room(world) == {*comes_back, OTHER_AGENT}


@pytest.mark.parametrize("closes_with_user", [True, False])
async def test_each_agent_says_whether_its_session_closes_with_its_user(
    start_app: StartApp,
    server: FakeServer,
    closes_with_user: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The service's own setting is that it does."""
    app = await start_app(agents={AGENT: replace(PLAIN, closes_with_user=closes_with_user)})
    for name in (AGENT, OTHER_AGENT):
        server.start_worker(name, helper=False)
        await app.dispatch(agentName=name)
    await app.advance(1)
    server.join("room")
    await app.advance(1)
    server.leave("room")
    await app.settle()

    reused = [(await app.dispatch(agentName=name)).body["reused"] for name in (AGENT, OTHER_AGENT)]

    assert reused == [not closes_with_user, False]


async def test_each_agent_says_who_may_end_it(start_app: StartApp, server: FakeServer) -> None:
    app = await start(start_app, server, replace(PLAIN, members_may_end=MemberEnd.NEVER))

    answers = [
        await app.call(
            "DELETE", DISPATCH, auth=member_token("room"), params={"roomName": "room", "agentName": name}
        )
        for name in (AGENT, OTHER_AGENT)
    ]

    assert [answer.status for answer in answers] == [403, 200]
    assert "members_may_end in AGENTS_FILE" in answers[0].body["message"]
