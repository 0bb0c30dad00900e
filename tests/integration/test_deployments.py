"""Rooms are shared between deployments: by weight, for good, and with another one where the own one fails."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.config.agents import AgentPolicy
from app.lifecycle import Briefing, Share
from app.lifecycle.terms import order_for_room
from fakes.faults import TIMEOUT, FailAfter
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, ON_BOTH, TOKEN, App, World

SPLIT = (Share(deployment="v2", weight=40), Share(deployment="v1", weight=60))
#: Names of rooms whose own deployment is the new one.
CANARIES = [
    name for name in (f"room-{number}" for number in range(60)) if order_for_room(name, SPLIT)[0] == "v2"
]


def policies(*shares: Share) -> dict[str, AgentPolicy]:
    return {AGENT: AgentPolicy(ttl_s=300, join_timeout_s=15, deployment=shares)}


@pytest.fixture
async def app(start_app: StartApp) -> App:
    return await start_app(agents=policies(*SPLIT))


def deployments(world: World, room: str) -> list[str]:
    """Of the dispatches that LiveKit has."""
    return [one.briefing.deployment for one in world.livekit.server.rooms[room].dispatches.values()]


def serving(world: World, room: str) -> list[str]:
    """Of the workers whose agents are in."""
    return [agent.worker.deployment for agent in world.agents(room)]


def lose_agent(server: FakeServer, room: str) -> None:
    server.leave(room, server.rooms[room].agents[0].identity, "CONNECTION_TIMEOUT")


def counted(app: App) -> dict[tuple[str, str], float]:
    found = {}
    for family in app.service.metrics.registry.collect():
        if family.name == "agent_lifecycle_deployment_dispatches":
            for sample in family.samples:
                found[sample.labels["deployment"], sample.labels["result"]] = sample.value
    return found


@ON_BOTH
async def test_each_room_has_its_deployment_for_good(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT, deployment="v1")
    server.start_worker(AGENT, deployment="v2")
    expected = {f"room-{number}": order_for_room(f"room-{number}", SPLIT)[0] for number in range(6)}
    assert set(expected.values()) == {"v1", "v2"}
    for _ in range(2):
        for room in expected:
            await app.dispatch(room)
        await app.advance(6)
        assert {room: serving(world, room) for room in expected} == {
            room: [deployment] for room, deployment in expected.items()
        }
        for room in expected:
            await app.end(room)
        await app.advance(1)

    listed = await app.listed(state="ended", limit="6")
    assert {one["roomName"]: one["deployment"] for one in listed} == expected
    shares = Counter(expected.values())
    assert counted(app) == {
        (deployment, result): 2 * shares[deployment]
        for deployment in ("v1", "v2")
        for result in ("dispatched", "joined")
    }


@ON_BOTH
async def test_where_nobody_takes_it_the_next_deployment_gets_the_room(
    app: App, world: World, server: FakeServer
) -> None:
    """Each of the first rooms waits for it; the later ones have the deployment that works at once."""
    server.start_worker(AGENT, deployment="v1")
    for room in CANARIES[:3]:
        server.join(room)
        await app.dispatch(room)
        assert deployments(world, room) == ["v2"]
        await app.pass_time(6)
        await app.advance(1)
        assert serving(world, room) == deployments(world, room) == ["v1"]

    await app.dispatch(CANARIES[3])
    await app.advance(1)
    assert serving(world, CANARIES[3]) == ["v1"]
    results = counted(app)
    assert (results["v2", "never_joined"], results["v1", "joined"]) == (3, 4)
    _, _, text = await app.scrape()
    assert f'agent_lifecycle_deployment_avoided{{agent="{AGENT}",deployment="v2"}} 1.0' in text

    server.start_worker(AGENT, deployment="v2")
    await app.pass_time(300)
    await app.dispatch(CANARIES[4])
    await app.advance(1)
    await app.dispatch(CANARIES[5])
    await app.advance(1)
    assert (serving(world, CANARIES[4]), serving(world, CANARIES[5])) == (["v2"], ["v2"])


@ON_BOTH
async def test_where_its_workers_die_the_other_deployment_takes_over(
    app: App, world: World, server: FakeServer
) -> None:
    room = CANARIES[0]
    canary = server.start_worker(AGENT, deployment="v2")
    server.start_worker(AGENT, deployment="v1")
    server.join(room)
    await app.dispatch(room)
    await app.advance(1)
    assert serving(world, room) == ["v2"]

    server.kill(canary)
    await app.pass_time(22)
    await app.pass_time(6)
    await app.advance(1)

    assert serving(world, room) == deployments(world, room) == ["v1"]
    assert await app.state(room) == "active"


@ON_BOTH
async def test_after_a_crash_loop_of_one_room_all_get_the_other_deployment(
    app: App, world: World, server: FakeServer
) -> None:
    server.start_worker(AGENT, deployment="v1")
    server.start_worker(AGENT, deployment="v2")
    crashing, beside = CANARIES[:2]
    for room in (crashing, beside):
        server.join(room)
        await app.dispatch(room)
        await app.advance(1)
    for _ in range(4):
        assert serving(world, crashing) == ["v2"]
        lose_agent(server, crashing)
        await app.settle()
        await app.advance(1)

    assert (serving(world, crashing), serving(world, beside)) == (["v1"], ["v2"])
    lose_agent(server, beside)
    await app.settle()
    await app.advance(1)
    await app.dispatch(CANARIES[2])
    await app.advance(1)
    assert (serving(world, beside), serving(world, CANARIES[2])) == (["v1"], ["v1"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agents.toml"


def roll_back(file: Path, *, running: str) -> None:
    text = f"running = '{running}'\n[agents.agent]\ndeployment = [{{name = 'v1'}}]"
    file.write_text(text, encoding="utf-8")


@ON_BOTH
async def test_a_reload_changes_the_split_of_new_rooms_only(
    start_app: StartApp, world: World, server: FakeServer, file: Path
) -> None:
    app = await start_app(agents=policies(*SPLIT), agents_file=file)
    server.start_worker(AGENT, deployment="v1")
    server.start_worker(AGENT, deployment="v2")
    before, after = CANARIES[:2]
    server.join(before)
    await app.dispatch(before)
    await app.advance(6)
    untouched = world.rows("dispatches")

    roll_back(file, running="keep")
    await app.service.reloader.reload()
    assert world.rows("dispatches") == untouched
    await app.dispatch(after)
    await app.advance(1)

    assert (serving(world, before), serving(world, after)) == (["v2"], ["v1"])
    # Its successor too has the terms that it began with.
    lose_agent(server, before)
    await app.settle()
    await app.advance(1)
    assert serving(world, before) == ["v2"]


@ON_BOTH
async def test_with_update_what_runs_leaves_a_deployment_that_was_dropped_when_it_gets_a_new_agent(
    start_app: StartApp, world: World, server: FakeServer, file: Path
) -> None:
    """An agent that another program has dispatched does not."""
    app = await start_app(agents=policies(*SPLIT), agents_file=file)
    for deployment in ("", "v1", "v2"):
        server.start_worker(AGENT, deployment=deployment)
    canary, adopted = CANARIES[0], "adopted"
    for room in (canary, adopted):
        server.join(room)
    await app.dispatch(canary)
    server.create_dispatch(adopted, AGENT)
    await app.advance(6)
    await app.sweep()
    roll_back(file, running="update")

    await app.service.reloader.reload()
    told = world.rows("history")
    await app.service.reloader.reload()
    assert world.rows("history") == told
    assert (serving(world, canary), serving(world, adopted)) == (["v2"], [""])

    for room in (canary, adopted):
        lose_agent(server, room)
    await app.settle()
    await app.advance(1)
    assert (serving(world, canary), serving(world, adopted)) == (["v1"], [""])


@ON_BOTH
async def test_the_row_knows_where_to_go_after_a_restart_with_another_policy(
    app: App, start_app: StartApp, world: World, server: FakeServer
) -> None:
    room = CANARIES[0]
    server.join(room)
    await app.dispatch(room)
    await app.stop()
    server.start_worker(AGENT, deployment="v1")

    other = await start_app()
    await other.pass_time(6)
    await other.advance(1)

    assert serving(world, room) == ["v1"]


# What is left alone


@ON_BOTH
@pytest.mark.parametrize("deployment", ["v2", "blue"])
async def test_a_deployment_that_a_caller_has_given_stays(
    app: App, world: World, server: FakeServer, deployment: str
) -> None:
    server.start_worker(AGENT, deployment="v1")
    agent = {"agent_name": AGENT, "deployment": deployment}
    asked: dict[str, Any] = {"room_name": "room", "room_config": {"agents": [agent]}}
    assert (await app.call("POST", TOKEN, json_body=asked)).status == 201
    server.join("room")
    for _ in range(4):
        await app.pass_time(6)
        assert set(deployments(world, "room")) <= {deployment}
        assert world.agents("room") == []
    assert counted(app) == {}

    server.start_worker(AGENT, deployment=deployment)
    # The dispatch under way, the wait after it, the next one.
    await app.pass_time(6)
    await app.pass_time(10)
    await app.advance(1)
    assert serving(world, "room") == [deployment]


@ON_BOTH
@pytest.mark.parametrize("deployment", ["v2", ""])
async def test_the_deployment_of_an_adopted_dispatch_stays(
    app: App, world: World, server: FakeServer, deployment: str
) -> None:
    server.start_worker(AGENT, deployment="v1")
    own = server.start_worker(AGENT, deployment=deployment)
    server.join("room")
    adopted = server.create_dispatch("room", AGENT, briefing=Briefing(deployment=deployment))
    await app.advance(6)
    await app.sweep()
    assert await app.state() == "active"

    server.kill(own)
    await app.pass_time(22)
    await app.pass_time(6)
    assert world.agents("room") == []
    server.start_worker(AGENT, deployment=deployment)
    await app.pass_time(10)
    await app.advance(1)

    assert serving(world, "room") == [deployment]
    shown = await app.call("GET", f"{AGENTS}/{adopted.id}")
    assert (shown.body["agent"]["deployment"], shown.body["deployment"]) == (deployment, deployment)


# LiveKit's answer is lost, or LiveKit is too old


@ON_BOTH
@pytest.mark.parametrize("keeps_attributes", [True, False], ids=["of today", "from before 1.13.2"])
async def test_a_dispatch_whose_answer_was_lost_is_found(
    app: App, world: World, server: FakeServer, *, keeps_attributes: bool
) -> None:
    """An old server drops the deployment, and gives the job to any worker."""
    server.keeps_attributes = keeps_attributes
    server.start_worker(AGENT, deployment="v2")
    world.livekit.faults.script("create_dispatch", FailAfter(TIMEOUT))

    answer = await app.dispatch(CANARIES[0])
    await app.advance(1)

    assert (answer.status, await app.state(CANARIES[0])) == (200, "idle")
    assert world.livekit.count("create_dispatch") == 1
    assert deployments(world, CANARIES[0]) == (["v2"] if keeps_attributes else [""])
    assert serving(world, CANARIES[0]) == ["v2"]


async def test_two_calls_for_one_room_get_one_agent(app: App, world: World, server: FakeServer) -> None:
    """What the service has chosen is nothing that a caller could have asked for otherwise."""
    server.start_worker(AGENT, deployment="v2")
    answers = [
        await app.dispatch(CANARIES[0], metadata={"n": 1}, replaceIfMetadataDiffers=True) for _ in range(2)
    ]
    assert [answer.body["reused"] for answer in answers] == [False, True]
    assert deployments(world, CANARIES[0]) == ["v2"]
