"""Readiness: when the service takes traffic, and what it reports."""

import asyncio

import pytest

from app import tasks
from app.errors import ServiceError
from devstack.truth import eventually
from fakes.faults import REFUSED, UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from integration.conftest import StartApp
from integration.harness import ON_BOTH, App, World


class Slip:
    """A fault of the service's own."""

    async def before(self) -> None:
        raise KeyError("a slip")

    async def after(self) -> None:
        pass


READY = {"ready": True, "database": "reachable", "timers": "restored", "livekit": "reachable", "missing": []}


async def test_ready_when_livekit_has_answered(app: App) -> None:
    answer = await app.call("GET", "/readyz", auth=None)

    assert (answer.status, answer.body) == (200, READY)


async def test_not_ready_before_livekit_has_answered(start_app: StartApp, livekit: FakeLiveKit) -> None:
    stuck = livekit.faults.hang("list_rooms")
    app = await start_app(ready=False)
    await stuck.reached.wait()

    answer = await app.call("GET", "/readyz", auth=None)

    assert (answer.status, answer.body) == (503, READY | {"ready": False, "livekit": "not contacted yet"})
    assert (await app.call("GET", "/healthz", auth=None)).status == 200
    stuck.release()


@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED], ids=["unreachable", "wrong keys"])
async def test_the_reason_of_livekits_failure_is_reported_and_it_is_retried(
    start_app: StartApp, livekit: FakeLiveKit, error: ServiceError, caplog: pytest.LogCaptureFixture
) -> None:
    livekit.faults.always("list_rooms", FailBefore(error))
    app = await start_app(ready=False)

    async def says_why() -> bool:
        answer = await app.call("GET", "/readyz")
        return (answer.status, answer.body["livekit"]) == (503, str(error))

    await eventually(says_why, "the reason is told")
    assert ("LIVEKIT_API_KEY" in caplog.text) is (error is REFUSED)
    livekit.faults.mend()

    async def is_ready() -> bool:
        return (await app.call("GET", "/readyz")).status == 200

    await eventually(is_ready, "it is ready once LiveKit answers")


async def test_a_sweep_that_compares_first_makes_it_ready(start_app: StartApp, livekit: FakeLiveKit) -> None:
    stuck = livekit.faults.hang("list_rooms")
    app = await start_app(ready=False)
    await stuck.reached.wait()

    await app.service.sweeper.sweep()

    answer = await app.call("GET", "/readyz", auth=None)
    assert (answer.status, answer.body) == (200, READY)
    stuck.release()


async def test_after_an_unexpected_error_it_is_retried_and_the_log_has_it(
    start_app: StartApp, livekit: FakeLiveKit, caplog: pytest.LogCaptureFixture
) -> None:
    livekit.faults.always("list_rooms", Slip())
    app = await start_app(ready=False)

    async def says_so() -> bool:
        answer = await app.call("GET", "/readyz")
        return answer.status == 503 and "see the log" in answer.body["livekit"]

    await eventually(says_so, "it tells that something is wrong")
    livekit.faults.mend()

    async def is_ready() -> bool:
        return (await app.call("GET", "/readyz")).status == 200

    await eventually(is_ready, "it is ready once that is over")
    lines = [record for record in caplog.records if vars(record).get("task") == "first reconcile"]
    assert lines
    assert all(line.exc_info for line in lines)


async def test_after_an_unexpected_error_a_sweep_makes_it_ready(
    start_app: StartApp, livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_FIRST_DELAY_S", 1_000)
    livekit.faults.script("list_rooms", Slip())
    app = await start_app(ready=False)

    async def has_failed() -> bool:
        return app.service.reconciler.problem is not None

    await eventually(has_failed, "the first reconcile has failed")
    assert (await app.call("GET", "/readyz")).status == 503

    await app.service.sweeper.sweep()

    assert (await app.call("GET", "/readyz")).body == READY


async def test_a_rejected_livekit_key_is_502_for_callers(start_app: StartApp, livekit: FakeLiveKit) -> None:
    livekit.faults.everywhere(FailBefore(REFUSED))
    app = await start_app(ready=False)

    answer = await app.dispatch()

    assert (answer.status, answer.code, answer.body["retryable"]) == (502, "livekit_refused", False)


async def test_still_ready_when_livekit_goes_away_later(app: App, livekit: FakeLiveKit) -> None:
    livekit.faults.everywhere(FailBefore(UNREACHABLE))
    await app.sweep()

    answer = await app.call("GET", "/readyz")

    assert (answer.status, answer.body["ready"]) == (200, True)


async def test_the_report_shows_that_livekit_has_gone_away(app: App, livekit: FakeLiveKit) -> None:
    livekit.faults.everywhere(FailBefore(UNREACHABLE))
    await app.sweep()

    assert (await app.call("GET", "/readyz")).body["livekit"] == str(UNREACHABLE)


@ON_BOTH
async def test_not_ready_while_the_database_fails(app: App, world: World) -> None:
    world.database_faults.down = True
    answer = await app.call("GET", "/readyz")
    assert answer.status == 503
    assert answer.body == READY | {
        "ready": False,
        "database": "The database is not available (OperationalError)",
    }

    world.database_faults.down = False
    assert (await app.call("GET", "/readyz")).body == READY


async def test_what_keeps_it_from_being_ready_has_a_warning_of_its_own(
    app: App, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own 503 has none."""
    world.database_faults.down = True
    assert (await app.call("GET", "/readyz")).status == 503
    assert not caplog.records
    await app.service.sweeper.sweep()
    warnings = {(record.levelname, vars(record)["action"], vars(record)["code"]) for record in caplog.records}
    assert ("WARNING", "sweep", "database_unavailable") in warnings
    world.database_faults.down = False


@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED], ids=["unreachable", "wrong keys"])
async def test_a_livekit_that_keeps_it_from_being_ready_has_lines_of_its_own(
    start_app: StartApp, livekit: FakeLiveKit, error: ServiceError, caplog: pytest.LogCaptureFixture
) -> None:
    livekit.faults.always("list_rooms", FailBefore(error))
    app = await start_app(ready=False)

    async def is_logged() -> bool:
        return any(vars(record).get("action") == "livekit" for record in caplog.records)

    await eventually(is_logged, "the reason is logged")
    assert (await app.call("GET", "/readyz")).status == 503


@ON_BOTH
async def test_every_endpoint_reports_a_database_failure(app: App, world: World) -> None:
    world.database_faults.down = True
    answers = await asyncio.gather(
        app.dispatch(),
        app.end(),
        app.call("GET", "/api/livekit/agent-status", params={"roomName": "room"}),
        app.call("GET", "/api/livekit/agents"),
        app.call("GET", "/api/livekit/agents/AD_1"),
    )

    assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}
    assert world.livekit.server.rooms == {}


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_database_outage_ends_no_agent(app: App, world: World) -> None:
    await app.dispatch()
    await app.advance(1)
    world.database_faults.down = True
    world.clock.advance(310)
    await app.service.sweeper.sweep()
    world.database_faults.down = False
    assert len(world.agents("room")) == 1

    await app.pass_time(1)

    assert world.agents("room") == []
    assert await app.state() == "none"
