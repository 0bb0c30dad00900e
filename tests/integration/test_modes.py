"""Modes: what each one does by itself, what it only counts, and changes between them."""

from app.lifecycle.mode import Mode
from fakes.rooms import FakeWorker
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import ON_BOTH, App, World

TTL_S = 300


def withheld(app: App) -> dict[str, int]:
    counts: dict[str, int] = {}
    for family in app.service.metrics.registry.collect():
        if family.name == "agent_lifecycle_withheld":
            counts = {sample.labels["kind"]: int(sample.value) for sample in family.samples}
    return counts


async def settle_in(app: App) -> None:
    """Let a dispatched agent join, and LiveKit show its job."""
    await app.advance(1)
    await app.advance(5)


async def occupy(app: App, server: FakeServer) -> str:
    """Let a person and an agent into the room; the id of the agent's dispatch."""
    # The service creates the room, so that LiveKit does not close it within the TTL.
    answer = await app.dispatch()
    assert answer.status == 200, answer
    server.join("room")
    await settle_in(app)
    assert await app.state() == "active"
    return str(answer.body["dispatchId"])


async def test_observe_tracks_and_never_reuses(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    app = await start_app(mode=Mode.OBSERVE)
    first = await occupy(app, server)

    again = await app.dispatch()
    await settle_in(app)

    assert again.body["reused"] is False
    assert set(world.dispatches("room")) == {first, again.body["dispatchId"]}
    assert len(world.agents("room")) == 2
    assert withheld(app) == {"reuse": 1}


async def test_observe_ends_nothing_and_counts_what_it_would_have_ended(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    app = await start_app(mode=Mode.OBSERVE)
    first = await occupy(app, server)
    server.leave("room")
    await app.settle()

    for seconds in (TTL_S, 20, 20):
        await app.pass_time(seconds)

    assert world.dispatches("room") == [first]
    assert len(world.agents("room")) == 1
    assert withheld(app) == {"ttl_expired": 1}


async def test_observe_does_not_replace_a_dead_agent(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    app = await start_app(mode=Mode.OBSERVE)
    await occupy(app, server)
    (agent,) = world.agents("room")
    server.kill(worker)
    server.start_worker("agent")

    await app.pass_time(60)

    assert agent.identity not in {other.identity for other in world.agents("room")}
    assert world.agents("room") == []


async def test_observe_ends_an_agent_on_request(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    app = await start_app(mode=Mode.OBSERVE)
    await occupy(app, server)

    answer = await app.end()
    await app.advance(1)

    assert answer.status == 200
    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_reuse_reuses_and_replaces_but_ends_nothing(
    start_app: StartApp, world: World, server: FakeServer, plain_worker: FakeWorker
) -> None:
    del plain_worker
    app = await start_app(mode=Mode.REUSE)
    first = await occupy(app, server)
    assert (await app.dispatch()).body["reused"] is True
    server.leave("room")
    server.join("room")
    await app.settle()
    await app.advance(6)

    # A default session closed with its user, and a person is in again: it is replaced too.
    (agent,) = world.agents("room")
    assert agent.answers("alice")
    (second,) = world.dispatches("room")
    assert second != first

    server.leave("room")
    await app.settle()
    for seconds in (TTL_S, 20, 20):
        await app.pass_time(seconds)
    assert world.dispatches("room") == [second]
    assert len(world.agents("room")) == 1
    assert withheld(app) == {"ttl_expired": 1}


async def test_reuse_keeps_extra_agents_of_other_programs(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    app = await start_app(mode=Mode.REUSE)
    first = await occupy(app, server)
    other = server.create_dispatch("room", "agent").id
    await app.pass_time(30)
    await app.pass_time(30)

    assert set(world.dispatches("room")) == {first, other}
    assert len(world.agents("room")) == 2
    assert withheld(app) == {"remove_extra": 1}


async def test_enforce_after_observe_ends_overdue_and_extra_agents(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    observer = await start_app(mode=Mode.OBSERVE)
    await occupy(observer, server)
    await observer.dispatch()
    await settle_in(observer)
    assert len(world.agents("room")) == 2
    server.leave("room")
    await observer.settle()
    await observer.pass_time(TTL_S)
    await observer.stop()

    app = await start_app(mode=Mode.ENFORCE)
    await app.sweep()
    await app.advance(6)

    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_enforce_after_observe_keeps_one_agent_with_people(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    observer = await start_app(mode=Mode.OBSERVE)
    await occupy(observer, server)
    await observer.dispatch()
    await settle_in(observer)
    await observer.stop()

    app = await start_app(mode=Mode.ENFORCE)
    await app.sweep()
    await app.advance(6)

    (agent,) = world.agents("room")
    assert agent.answers("alice")
    assert (await app.dispatch()).body["reused"] is True


async def test_observe_after_enforce_does_not_act_on_running_ttls(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    del worker
    enforcer = await start_app(mode=Mode.ENFORCE)
    first = await occupy(enforcer, server)
    server.leave("room")
    await enforcer.settle()
    await enforcer.stop()

    observer = await start_app(mode=Mode.OBSERVE)
    await observer.pass_time(TTL_S)
    assert world.dispatches("room") == [first]
    await observer.stop()

    app = await start_app(mode=Mode.ENFORCE)
    await app.sweep()
    await app.advance(6)
    assert world.dispatches("room") == []
    assert world.agents("room") == []


@ON_BOTH
async def test_from_observe_to_reuse_to_enforce_and_back(
    start_app: StartApp, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    """On one database, with a person in: each mode continues from the rows of the one before."""
    del worker
    observer = await start_app(mode=Mode.OBSERVE)
    first = await occupy(observer, server)
    await observer.stop()

    reuser = await start_app(mode=Mode.REUSE)
    assert (await reuser.dispatch()).body["dispatchId"] == first
    other = server.create_dispatch("room", "agent").id
    await settle_in(reuser)
    await reuser.sweep()
    assert set(world.dispatches("room")) == {first, other}
    await reuser.stop()

    enforcer = await start_app(mode=Mode.ENFORCE)
    await enforcer.sweep()
    await enforcer.advance(6)
    assert world.dispatches("room") == [first]
    assert [agent.answers("alice") for agent in world.agents("room")] == [True]
    await enforcer.stop()

    reuser = await start_app(mode=Mode.REUSE)
    server.leave("room")
    await reuser.settle()
    for seconds in (TTL_S, 20):
        await reuser.pass_time(seconds)
    assert world.dispatches("room") == [first]
    await reuser.stop()

    observer = await start_app(mode=Mode.OBSERVE)
    await observer.pass_time(20)
    assert (await observer.dispatch()).body["reused"] is False
    assert first in world.dispatches("room")
