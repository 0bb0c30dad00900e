"""Workers that report themselves: who is known, who is missed, who is full, and who is drained."""

import asyncio
from typing import Any

import pytest

from app.config.agents import AgentPolicy
from app.lifecycle import Share
from app.lifecycle.mode import Mode
from fakes.rooms import FakeWorker, Process
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import AGENT, API_KEY, ON_BOTH, ON_POSTGRES, App, World, member_token
from integration.replicas import Replica
from integration.reports import ReportingWorker, known, look

DRAIN = "/api/livekit/workers/drain"


@pytest.fixture
def reporting(world: World, worker: FakeWorker) -> ReportingWorker:
    """The worker of the default agent, which takes two jobs."""
    return ReportingWorker(world=world, worker=worker, slots=2)


async def report_all(app: App, *workers: ReportingWorker, seconds: float = 0) -> None:
    """Let time pass while these workers report."""
    while True:
        for one in workers:
            await one.report(app)
        await look(app)
        if seconds <= 0:
            return
        step_s = min(seconds, 1.5)
        await app.advance(step_s)
        seconds -= step_s


async def confirm(app: App, *workers: ReportingWorker) -> None:
    """Two reports: the first may be from before the service looked."""
    await report_all(app, *workers)
    await report_all(app, *workers)


async def meet(app: App, server: FakeServer, room: str) -> None:
    """An agent and a person in a room."""
    server.join(room)
    assert (await app.dispatch(room)).status == 200
    await app.advance(1)
    await look(app)


# Known


@ON_BOTH
async def test_a_worker_is_known_with_what_it_said_last(
    app: App, server: FakeServer, reporting: ReportingWorker
) -> None:
    assert await known(app) == []
    await reporting.report(app)
    await meet(app, server, "room")
    await reporting.report(app)

    (found,) = await known(app)

    assert found.pop("lastSeen").endswith("Z")
    assert found == {
        "id": reporting.id,
        "livekitId": "AW_1",
        "agentNames": [AGENT],
        "deployment": "",
        "version": "1.4",
        "helper": "0.1.0",
        "state": "accepting",
        "slots": 2,
        "active": 1,
        "warm": 0,
        "load": 0.25,
        "accepting": True,
        "draining": False,
        "drainRequested": False,
        "left": None,
    }


@ON_BOTH
async def test_a_report_that_was_overtaken_changes_nothing(app: App, reporting: ReportingWorker) -> None:
    await reporting.report(app)
    await reporting.report(app, load=0.5)
    reporting.number -= 2
    await reporting.report(app, load=0.75)

    (found,) = await known(app)

    assert found["load"] == 0.5


@ON_BOTH
async def test_many_reports_at_once_are_stored_together(app: App, world: World, worker: FakeWorker) -> None:
    workers = [ReportingWorker(world=world, worker=worker) for _ in range(30)]

    await asyncio.gather(*(one.report(app) for one in workers))

    assert {one["id"] for one in await known(app)} == {one.id for one in workers}


async def test_a_worker_that_takes_its_leave_is_gone_at_once(app: App, reporting: ReportingWorker) -> None:
    await reporting.report(app)
    await reporting.report(app, leaving=True)
    assert await known(app) == []
    # A report that was sent before.
    reporting.number -= 2
    await reporting.report(app)
    assert await known(app) == []


async def test_after_three_reports_that_do_not_come_a_worker_is_gone(
    app: App, reporting: ReportingWorker
) -> None:
    await reporting.report(app)
    for state in ("accepting", "accepting", "missing", "missing"):
        await look(app)
        assert [one["state"] for one in await known(app)] == [state]
        await app.advance(1.4)
    await look(app)
    assert await known(app) == []

    await reporting.report(app)

    assert [one["state"] for one in await known(app)] == ["accepting"]


async def test_the_services_own_absence_makes_no_worker_gone(
    start_app: StartApp, reporting: ReportingWorker
) -> None:
    first = await start_app()
    await reporting.report(first)
    await first.stop()
    first.world.clock.advance(300)
    second = await start_app()
    await look(second)
    assert [one["state"] for one in await known(second)] == ["accepting"]
    # Nor does one that lasts while it runs.
    second.world.clock.advance(300)
    await look(second)
    assert [one["state"] for one in await known(second)] == ["accepting"]


async def test_a_report_that_cannot_be_stored_is_503_and_makes_nobody_gone(
    app: App, world: World, reporting: ReportingWorker
) -> None:
    await reporting.report(app)
    world.database_faults.down = True
    for _ in range(4):
        await app.advance(1.5)
        assert (await app.call_as_worker("report", reporting.content)).status == 503
    world.database_faults.down = False
    await look(app)
    assert [one["state"] for one in await known(app)] == ["accepting"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"workerId": "no"}, 422),
        ({"workerId": "x" * 65}, 422),
        ({"number": -1}, 422),
        ({"agentNames": []}, 422),
        ({"slots": 0}, 422),
        ({"load": "high"}, 422),
        ({"version": "a\nb"}, 422),
        ({"deployment": "\0"}, 422),
        ({"laterField": 1}, 200),
    ],
)
async def test_a_report_is_checked(
    fields: dict[str, Any], status: int, app: App, reporting: ReportingWorker
) -> None:
    answer = await app.call_as_worker("report", reporting.content | fields)
    assert answer.status == status, answer
    assert len(await known(app)) == int(status == 200)


@pytest.mark.parametrize("auth", [API_KEY, member_token("room")])
async def test_only_a_worker_reports(auth: str, app: App, reporting: ReportingWorker) -> None:
    answer = await app.call("POST", "/api/livekit/worker/report", json_body=reporting.content, auth=auth)
    assert answer.status in (401, 403)
    assert await known(app) == []


# Missed


@ON_BOTH
async def test_a_worker_that_dies_is_missed_for_all_its_agents_at_once(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await meet(app, server, "a")
    await meet(app, server, "b")
    await reporting.report(app)
    server.kill(reporting.worker)
    server.start_worker(AGENT)
    for _ in range(2):
        await app.advance(1.4)
        await look(app)

    await app.advance(1)

    for room in ("a", "b"):
        assert [agent.reacts for agent in world.agents(room)] == [True]
        assert await app.state(room) == "active"


@ON_POSTGRES
async def test_two_replicas_probe_the_agents_of_a_late_worker_once(
    a: Replica, b: Replica, world: World, server: FakeServer, worker: FakeWorker
) -> None:
    reporting = ReportingWorker(world=world, worker=worker)
    await confirm(a.app, reporting)
    await meet(a.app, server, "room")
    await reporting.report(a.app)
    await look(b.app)
    asked = _probes(a, b)
    for _ in range(2):
        await a.app.advance(1.4)
        await asyncio.gather(look(a.app), look(b.app))
    assert _probes(a, b) - asked == 2


def _probes(*replicas: Replica) -> int:
    return sum(call.method == "probe" for replica in replicas for call in replica.livekit.calls)


async def test_a_healthy_agent_stays_when_only_its_workers_reports_are_lost(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    """The way to the service is cut, and the way to LiveKit is not."""
    await confirm(app, reporting)
    await meet(app, server, "room")
    await reporting.report(app)
    (before,) = world.agents("room")
    for _ in range(5):
        await app.advance(1.4)
        await look(app)

    assert await known(app) == []
    assert world.agents("room") == [before]
    assert await app.state() == "active"


async def test_an_agent_that_no_report_has_named_yet_is_missed_with_its_worker(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await meet(app, server, "room")
    server.kill(reporting.worker)
    server.start_worker(AGENT)
    for _ in range(2):
        await app.advance(1.4)
        await look(app)
    await app.advance(1)
    assert [agent.reacts for agent in world.agents("room")] == [True]


async def test_without_probes_nothing_is_concluded_from_a_missing_worker(
    start_app: StartApp, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    app = await start_app(liveness_interval_s=0)
    await confirm(app, reporting)
    await meet(app, server, "room")
    await reporting.report(app)
    server.kill(reporting.worker)
    server.start_worker(AGENT)
    for _ in range(4):
        await app.advance(1.4)
        await look(app)
    assert [agent.reacts for agent in world.agents("room")] == [False]


# Full


@ON_BOTH
async def test_a_call_beyond_the_slots_is_refused_at_once(
    app: App, world: World, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    # Between two reports.
    assert [(await app.dispatch(room)).status for room in ("a", "b")] == [200, 200]

    answer = await app.dispatch("c")

    assert (answer.status, answer.code) == (429, "at_capacity")
    assert int(answer.headers["Retry-After"]) > 0
    assert world.dispatches("c") == []
    # The rooms that have one are served.
    assert (await app.dispatch("a")).status == 200
    await app.advance(1)
    await report_all(app, reporting)
    assert (await app.dispatch("c")).code == "at_capacity"


@ON_BOTH
async def test_a_call_that_waits_gets_the_slot_that_becomes_free(
    app: App, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await app.dispatch("a")
    await app.dispatch("b")
    await app.advance(1)
    await report_all(app, reporting)
    waiting = asyncio.create_task(app.dispatch("c", waitS=30))
    while not len(app.service.call_queue):  # noqa: ASYNC110 - what it is about has no event
        await asyncio.sleep(0.01)

    await app.end("a")
    await report_all(app, reporting)

    async with asyncio.timeout(10):
        answer = await waiting
    assert answer.status == 200, answer
    assert answer.body["queue"]["position"] == 1


@ON_POSTGRES
async def test_two_replicas_give_a_slot_once(
    a: Replica, b: Replica, world: World, worker: FakeWorker
) -> None:
    reporting = ReportingWorker(world=world, worker=worker, slots=1)
    for _ in range(2):
        await reporting.report(a.app)
        await look(a.app)
        await look(b.app)
    answers = await asyncio.gather(a.app.dispatch("a"), b.app.dispatch("b"))
    assert sorted(answer.status for answer in answers) == [200, 429]


async def fill(app: App, reporting: ReportingWorker) -> None:
    await confirm(app, reporting)
    for room in ("a", "b"):
        assert (await app.dispatch(room)).status == 200
    await app.advance(1)
    await report_all(app, reporting)
    assert (await app.dispatch("c")).status == 429


async def test_a_worker_without_the_helper_is_noticed_and_nobody_is_refused(
    app: App, server: FakeServer, reporting: ReportingWorker
) -> None:
    await fill(app, reporting)
    reporting.worker.draining = True
    # Another program dispatches, and a worker that reports nothing takes the job.
    server.start_worker(AGENT)
    server.create_dispatch("elsewhere", AGENT)
    server.join("elsewhere")
    await app.sweep()
    await report_all(app, reporting, seconds=8)
    assert (await app.dispatch("c")).status == 200


async def test_a_worker_without_the_helper_and_without_an_agent_is_found_by_a_call_in_a_minute(
    app: App, server: FakeServer, reporting: ReportingWorker
) -> None:
    await fill(app, reporting)
    server.start_worker(AGENT)
    await report_all(app, reporting, seconds=58)
    assert (await app.dispatch("c")).status == 429
    await report_all(app, reporting, seconds=3)
    assert (await app.dispatch("c")).status == 200
    assert (await app.dispatch("d")).status == 429


async def test_stale_reports_refuse_nobody(app: App, reporting: ReportingWorker) -> None:
    await fill(app, reporting)
    await app.advance(1.4)
    await look(app)
    await app.advance(1.4)
    await look(app)
    assert (await app.dispatch("c")).status == 200


async def test_a_worker_that_does_not_say_how_many_jobs_it_takes_refuses_nobody_while_it_accepts(
    app: App, world: World, worker: FakeWorker
) -> None:
    reporting = ReportingWorker(world=world, worker=worker)
    await confirm(app, reporting)
    for room in ("a", "b", "c"):
        assert (await app.dispatch(room)).status == 200
    await app.advance(1)
    for _ in range(2):
        await reporting.report(app, accepting=False)
        await look(app)
    assert (await app.dispatch("d")).status == 429


async def test_a_mode_that_only_watches_refuses_nobody(
    start_app: StartApp, reporting: ReportingWorker
) -> None:
    app = await start_app(mode=Mode.OBSERVE)
    await confirm(app, reporting)
    assert [(await app.dispatch(room)).status for room in ("a", "b", "c")] == [200] * 3


async def test_a_deployment_with_room_takes_what_a_full_one_does_not(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    shares = (Share(deployment="v1", weight=50), Share(deployment="v2", weight=50))
    app = await start_app(agents={AGENT: AgentPolicy(ttl_s=300, join_timeout_s=15, deployment=shares)})
    old = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v1"), slots=1)
    new = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v2"), slots=1)
    await confirm(app, old, new)
    assert [(await app.dispatch(room)).status for room in ("a", "b", "c")] == [200, 200, 429]


# Drained


@ON_BOTH
async def test_a_drained_worker_takes_no_jobs_and_its_idle_agents_end_while_people_stay(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await meet(app, server, "talking")
    await meet(app, server, "left")
    await report_all(app, reporting)
    server.leave("left", "alice")
    await app.settle()

    ordered = await app.call("POST", f"/api/livekit/workers/{reporting.id}/drain")

    assert [one["drainRequested"] for one in ordered.body["workers"]] == [True]
    assert await reporting.report(app)
    await report_all(app, reporting, seconds=4)
    # The next person gets an agent.
    assert await app.state("left") == "unavailable"
    assert world.agents("left") == []
    (found,) = await known(app)
    assert (found["state"], found["draining"], found["accepting"]) == ("draining", True, False)
    assert [(one["roomName"], one["state"], one["participantCount"]) for one in found["left"]] == [
        ("talking", "active", 1)
    ]
    # It is drained: no other call gets an agent there.
    assert (await app.dispatch("another")).status == 429

    cancelled = await app.call("DELETE", f"/api/livekit/workers/{reporting.id}/drain")

    assert [one["drainRequested"] for one in cancelled.body["workers"]] == [False]
    assert not await reporting.report(app)
    await report_all(app, reporting)
    assert (await app.dispatch("another")).status == 200


async def test_an_agent_that_stayed_for_its_people_ends_3_s_after_the_last_one_has_left(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await meet(app, server, "room")
    await report_all(app, reporting)
    await app.call("POST", f"/api/livekit/workers/{reporting.id}/drain")
    await report_all(app, reporting, seconds=1)
    server.leave("room", "alice")
    await app.settle()

    await report_all(app, reporting, seconds=2)
    assert len(world.agents("room")) == 1
    await report_all(app, reporting, seconds=2)
    assert world.agents("room") == []


async def test_a_drain_survives_a_restart_and_holds_for_workers_that_come_later(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    first = await start_app()
    await first.call("POST", DRAIN, params={"deployment": "v1"})
    await first.stop()
    second = await start_app()
    old = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v1"))
    new = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v2"))
    assert await old.report(second)
    assert not await new.report(second)
    listed = await second.call("GET", "/api/livekit/workers")
    assert listed.body["drainedDeployments"] == ["v1"]

    await second.call("DELETE", DRAIN, params={"deployment": "v1"})

    assert not await old.report(second)


async def test_a_drain_of_those_without_a_deployment_is_not_for_their_successors(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await reporting.report(app)
    await app.advance(1)
    await app.call("POST", DRAIN, params={"deployment": ""})
    await app.advance(1)
    successor = ReportingWorker(world=world, worker=server.start_worker(AGENT))
    assert await reporting.report(app)
    assert not await successor.report(app)


async def test_new_rooms_of_a_drained_deployment_get_another_one_at_once(
    start_app: StartApp, server: FakeServer
) -> None:
    shares = (Share(deployment="v1", weight=99), Share(deployment="v2", weight=1))
    app = await start_app(agents={AGENT: AgentPolicy(ttl_s=300, join_timeout_s=15, deployment=shares)})
    server.start_worker(AGENT, deployment="v2")
    await app.call("POST", DRAIN, params={"deployment": "v1"})
    await app.dispatch("room")
    assert [one.briefing.deployment for one in server.rooms["room"].dispatches.values()] == ["v2"]


async def test_an_agent_that_somebody_comes_back_to_while_it_is_ended_stays(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    """LiveKit is asked before: the webhook of the return may be on its way."""
    await confirm(app, reporting)
    await meet(app, server, "room")
    await report_all(app, reporting)
    server.leave("room", "alice")
    await app.settle()
    await app.call("POST", f"/api/livekit/workers/{reporting.id}/drain")
    world.clock.advance(1.5)
    await reporting.report(app)
    world.clock.advance(1.5)
    await reporting.report(app)
    server.join("room")
    kept = world.post.take()
    await look(app)
    assert len(world.agents("room")) == 1
    assert await app.state() == "active"
    assert kept


async def test_an_agent_whose_caller_has_not_come_yet_is_given_time_to_be_joined(
    app: App, world: World, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await app.dispatch("room")
    await app.advance(1)
    await report_all(app, reporting)
    await app.call("POST", f"/api/livekit/workers/{reporting.id}/drain")
    await report_all(app, reporting, seconds=20)
    assert len(world.agents("room")) == 1
    await report_all(app, reporting, seconds=15)
    assert world.agents("room") == []


async def test_a_mode_that_only_watches_ends_no_agent_of_a_drained_worker(
    start_app: StartApp, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    app = await start_app(mode=Mode.OBSERVE)
    await confirm(app, reporting)
    await meet(app, server, "room")
    await report_all(app, reporting)
    server.leave("room", "alice")
    await app.settle()
    await app.call("POST", f"/api/livekit/workers/{reporting.id}/drain")
    await report_all(app, reporting, seconds=6)
    assert len(world.agents("room")) == 1
    assert await app.state() == "idle"


async def test_a_worker_that_is_not_known_cannot_be_drained(app: App) -> None:
    answer = await app.call("POST", "/api/livekit/workers/nobody/drain")
    assert (answer.status, answer.code) == (404, "not_found")
    assert (await app.call("DELETE", "/api/livekit/workers/nobody/drain")).status == 200


@pytest.fixture
def remembering(world: World, server: FakeServer) -> ReportingWorker:
    """A worker whose agents have a memory that outlives them."""
    return ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True))


@ON_BOTH
async def test_conversations_of_a_drained_worker_move_to_another_one(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    await confirm(app, remembering)
    for room in ("a", "b"):
        await meet(app, server, room)
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True))
    await confirm(app, remembering, other)

    await app.call("POST", f"/api/livekit/workers/{remembering.id}/drain")

    for _ in range(12):
        await report_all(app, remembering, other, seconds=0.5)
        for room in ("a", "b"):
            assert len([agent for agent in world.agents(room) if agent.answers("alice")]) == 1
    assert server.agents_of(remembering.worker) == []
    assert len(server.agents_of(other.worker)) == 2
    assert [one["left"] for one in await known(app) if one["draining"]] == [[]]


async def test_a_redeploy_is_a_drain_by_the_worker_itself(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    await confirm(app, remembering)
    await meet(app, server, "talking")
    await meet(app, server, "left")
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True))
    await confirm(app, remembering, other)
    server.leave("left", "alice")
    await app.settle()

    # The platform has sent SIGTERM.
    for _ in range(16):
        await other.report(app)
        await remembering.report(app)
        remembering.worker.draining = True
        await look(app)
        await app.advance(0.5)

    assert server.agents_of(remembering.worker) == []
    assert [room.name for room, _ in server.agents_of(other.worker)] == ["talking"]


async def test_a_drained_deployment_hands_over_to_the_next_one(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    shares = (Share(deployment="v1", weight=100), Share(deployment="v2", weight=0))
    app = await start_app(agents={AGENT: AgentPolicy(ttl_s=300, join_timeout_s=15, deployment=shares)})
    old = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v1", remembers=True))
    await confirm(app, old)
    await meet(app, server, "room")
    new = ReportingWorker(world=world, worker=server.start_worker(AGENT, deployment="v2", remembers=True))
    await confirm(app, old, new)

    await app.call("POST", DRAIN, params={"deployment": "v1"})
    await report_all(app, old, new, seconds=6)

    assert [agent.worker for agent in world.agents("room")] == [new.worker]


@pytest.mark.parametrize("obstacle", ["no other worker", "one that drains", "another agent's", "no memory"])
async def test_a_conversation_stays_where_nobody_could_go_on_with_it(
    app: App, world: World, server: FakeServer, obstacle: str
) -> None:
    remembers = obstacle != "no memory"
    own = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=remembers))
    workers = [own]
    await confirm(app, own)
    await meet(app, server, "room")
    if obstacle != "no other worker":
        name = "other-agent" if obstacle == "another agent's" else AGENT
        worker = server.start_worker(name, remembers=remembers)
        workers.append(ReportingWorker(world=world, worker=worker))
    await confirm(app, *workers)

    for one in workers if obstacle == "one that drains" else [own]:
        await app.call("POST", f"/api/livekit/workers/{one.id}/drain")
    await report_all(app, *workers, seconds=30)

    assert [agent.worker for agent in world.agents("room")] == [own.worker]
    assert len(world.dispatches("room")) == 1


async def test_a_redeploy_ends_no_idle_agent_whose_conversation_would_begin_again(
    app: App, world: World, server: FakeServer, reporting: ReportingWorker
) -> None:
    await confirm(app, reporting)
    await meet(app, server, "room")
    await report_all(app, reporting)
    server.leave("room", "alice")
    await app.settle()
    for _ in range(6):
        await reporting.report(app)
        reporting.worker.draining = True
        await look(app)
        await app.advance(1)

    assert len(world.agents("room")) == 1
    assert await app.state("room") == "idle"


async def test_no_more_conversations_move_at_once_than_there_are_slots(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    """Else new callers would be refused for reliefs that no worker takes."""
    await confirm(app, remembering)
    rooms = ("a", "b", "c", "d")
    for room in rooms:
        await meet(app, server, room)
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True), slots=2)
    await confirm(app, remembering, other)

    await app.call("POST", f"/api/livekit/workers/{remembering.id}/drain")
    await report_all(app, remembering, other, seconds=4)

    made = [row for row in world.rows("dispatches") if row["cause"] == "drained"]
    assert len(made) == 2
    assert len(server.agents_of(other.worker)) == 2
    for room in rooms:
        assert len([agent for agent in world.agents(room) if agent.answers("alice")]) == 1


async def test_a_second_drain_of_the_workers_without_a_deployment_is_for_those_of_then(
    app: App, reporting: ReportingWorker
) -> None:
    await app.call("POST", DRAIN, params={"deployment": ""})
    await app.advance(1)
    await reporting.report(app)
    assert not await reporting.report(app)
    await app.advance(1)

    await app.call("POST", DRAIN, params={"deployment": ""})

    assert await reporting.report(app)


async def test_a_hold_takes_effect_in_the_middle_of_a_relief(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    await confirm(app, remembering)
    await meet(app, server, "room")
    slow = server.start_worker(AGENT, remembers=True, joins_after_s=8)
    other = ReportingWorker(world=world, worker=slow)
    await confirm(app, remembering, other)
    dispatch_id = (await app.status("room"))["dispatchId"]
    await app.call("POST", f"/api/livekit/workers/{remembering.id}/drain")
    await report_all(app, remembering, other, seconds=2)

    held = await app.call("POST", f"/api/livekit/agents/{dispatch_id}/hold")
    await report_all(app, remembering, other, seconds=12)

    assert (held.status, held.body["state"]) == (200, "on_hold")
    assert world.agents("room") == []
    assert world.dispatches("room") == []


async def test_a_call_that_waits_is_answered_while_another_agent_takes_over(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    await confirm(app, remembering)
    await meet(app, server, "room")
    slow = server.start_worker(AGENT, remembers=True, joins_after_s=8)
    other = ReportingWorker(world=world, worker=slow)
    await confirm(app, remembering, other)
    await app.call("POST", f"/api/livekit/workers/{remembering.id}/drain")
    await report_all(app, remembering, other, seconds=2)

    answer = await app.dispatch("room", wait="ready")

    assert (answer.status, answer.body["ready"], answer.body["reused"]) == (200, True, True)


async def test_a_relief_that_no_worker_took_is_tried_again_with_the_same_slot(
    app: App, world: World, server: FakeServer, remembering: ReportingWorker
) -> None:
    await confirm(app, remembering)
    await meet(app, server, "room")
    other = ReportingWorker(world=world, worker=server.start_worker(AGENT, remembers=True), slots=1)
    await confirm(app, remembering, other)
    # It says that it takes jobs, and takes none at first.
    other.worker.process = Process.FROZEN
    await app.call("POST", f"/api/livekit/workers/{remembering.id}/drain")
    await report_all(app, remembering, other, seconds=8)
    assert [agent.worker for agent in world.agents("room")] == [remembering.worker]

    other.worker.process = Process.RUNNING
    for _ in range(8):
        await report_all(app, remembering, other, seconds=3)
        await app.sweep()

    assert [agent.worker for agent in world.agents("room")] == [other.worker]
