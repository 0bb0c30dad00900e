"""The usage ledger: what each dispatch costs, over restarts, replicas and midnight; as JSON and as CSV."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.control import usage as control_usage
from app.lifecycle import EndReason
from app.web.openapi import build_document
from app.web.routes import api_endpoints
from fakes.clock import SECOND_US, START_US, FakeClock
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.dashboard_page import Page
from integration.harness import AGENT, AGENTS, ON_BOTH, ON_POSTGRES, OTHER_AGENT, USAGE, App, World

START = datetime.fromtimestamp(START_US / SECOND_US, UTC)
TODAY, TOMORROW = START.date().isoformat(), (START + timedelta(days=1)).date().isoformat()
#: From the start of the world's clock.
TO_MIDNIGHT_S = 16 * 3_600
TTL_S = 300

pytestmark = pytest.mark.usefixtures("worker")


def times(item: dict[str, Any]) -> tuple[float, float, float, float]:
    """Starting, talked, idle, unvisited."""
    return item["startingS"], item["talkedS"], item["idleS"], item["unvisitedS"]


async def visit(app: App, server: FakeServer, room: str = "room", *, talk_s: float) -> None:
    """An agent that starts for 2 s, is alone for 10 s, talks, and has 20 s of its TTL left."""
    await app.dispatch(room)
    await app.advance(2)
    await app.advance(10)
    server.join(room)
    await app.settle()
    await app.advance(talk_s)
    server.leave(room)
    await app.settle()
    await app.advance(TTL_S - 20)


@ON_BOTH
async def test_a_visit_is_divided_into_its_kinds_of_time(app: App, world: World, server: FakeServer) -> None:
    await visit(app, server, talk_s=60)
    (item,) = (await app.usage())["items"]
    assert times(item) == (2, 60, TTL_S - 20, 10), "what runs is included"
    assert (item["key"], item["dispatches"], item["endReasons"]) == (AGENT, 1, {})

    await app.pass_time(20)

    body = await app.usage()
    (item,) = body["items"]
    assert times(item) == (2, 60, TTL_S, 10)
    assert (item["dispatches"], item["endReasons"]) == (1, {"expired": 1})
    assert body["totals"] == {name: value for name, value in item.items() if name != "key"}
    (row,) = world.rows("dispatches")
    assert sum(times(item)) == (row["ended_at"] - row["created_at"]) / SECOND_US


@ON_BOTH
async def test_usage_is_summed_by_agent_and_by_room(app: App, server: FakeServer) -> None:
    server.start_worker(OTHER_AGENT)
    for room, fields in (("b", {}), ("a", {}), ("a", {"agentName": OTHER_AGENT})):
        await app.dispatch(room, **fields)
    await app.advance(5)
    await app.end("b")
    await app.settle()

    by_agent, by_room = await app.usage(by="agent"), await app.usage(by="room")

    assert [(item["key"], item["dispatches"]) for item in by_agent["items"]] == [(AGENT, 2), (OTHER_AGENT, 1)]
    assert [(item["key"], item["dispatches"]) for item in by_room["items"]] == [("a", 2), ("b", 1)]
    assert by_agent["totals"] == by_room["totals"]
    assert by_agent["totals"]["endReasons"] == {"requested": 1}
    assert sum(times(by_agent["totals"])) == 15


@ON_BOTH
async def test_time_is_split_at_midnight_in_utc(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    world.clock.advance(TO_MIDNIGHT_S - 100)
    app = await start_app()
    await app.dispatch()
    await app.advance(10)
    server.join("room")
    await app.settle()
    await app.advance(90 + 30)

    running = await app.usage(by="day")
    assert [(item["key"], item["talkedS"]) for item in running["items"]] == [(TODAY, 90), (TOMORROW, 30)]
    server.leave("room")
    await app.settle()
    await app.pass_time(TTL_S)

    body = await app.usage(by="day")
    today, tomorrow = body["items"]
    assert sum(times(today)) == 100
    assert times(tomorrow) == (0, 30, TTL_S, 0)
    assert (today["dispatches"], tomorrow["dispatches"], body["totals"]["dispatches"]) == (1, 1, 1)
    assert (today["endReasons"], tomorrow["endReasons"]) == ({}, {"expired": 1})

    only = await app.usage(by="day", **{"from": TODAY, "to": TOMORROW})
    assert (only["from"], only["to"], only["items"]) == (TODAY, TOMORROW, [today])


@ON_BOTH
async def test_an_unavailable_dispatch_costs_nothing(app: App) -> None:
    """Nobody serves the other agent: only the three attempts cost."""
    await app.dispatch(agentName=OTHER_AGENT)
    for _ in range(3):
        await app.pass_time(6)
    assert (await app.status(agentName=OTHER_AGENT))["state"] == "unavailable"
    before = await app.usage()

    await app.advance(100)

    assert await app.usage() == before
    assert times(before["totals"]) == (18, 0, 0, 0)


async def test_an_agent_on_hold_costs_nothing(app: App, world: World, server: FakeServer) -> None:
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    await app.advance(2)
    server.join("room")
    await app.settle()
    await app.advance(60)
    await app.call("POST", f"{AGENTS}/{dispatch_id}/hold")
    await app.settle()

    await app.advance(1_000)
    await app.call("POST", f"{AGENTS}/{dispatch_id}/resume")
    await app.settle()
    await app.advance(2)
    await app.advance(30)

    assert times((await app.usage())["totals"]) == (4, 90, 0, 0)
    assert [row["state"] for row in world.rows("dispatches") if row["state"] != "ended"] == ["active"]


@ON_BOTH
async def test_only_a_change_of_the_kind_is_written(app: App, world: World, server: FakeServer) -> None:
    await app.dispatch()
    await app.advance(5)
    server.join("room")
    server.join("another room")
    await app.settle()
    before = world.rows("usage"), world.rows("dispatches")[0]["accounted_at"]

    await app.advance(60)
    server.join("room", "bob")
    server.leave("another room")
    await app.settle()
    server.leave("room", "bob")
    await app.settle()

    assert (world.rows("usage"), world.rows("dispatches")[0]["accounted_at"]) == before
    assert (await app.usage())["totals"]["talkedS"] == 60


@ON_BOTH
async def test_sums_are_exact_over_a_restart(start_app: StartApp, world: World, server: FakeServer) -> None:
    app = await start_app()
    await app.dispatch()
    await app.advance(10)
    server.join("room")
    await app.settle()
    await app.advance(30)
    await app.stop()

    world.clock.advance(100)
    app = await start_app()
    server.leave("room")
    await app.settle()
    await app.pass_time(TTL_S)

    (row,), usage = world.rows("dispatches"), (await app.usage())["totals"]
    assert (usage["talkedS"], usage["idleS"]) == (130, TTL_S)
    assert sum(times(usage)) == (row["ended_at"] - row["created_at"]) / SECOND_US


@ON_POSTGRES
async def test_two_replicas_with_clocks_apart_count_no_moment_twice(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    a = await start_app()
    ahead = FakeClock(world.clock.now() + 40 * SECOND_US)
    b = await start_app(clock=ahead)

    async def advance(seconds: float) -> None:
        world.clock.advance(seconds)
        ahead.advance(seconds)

    await a.dispatch()
    await advance(10)
    await a.settle()
    for replica in (a, b):  # a: unvisited for 10 s by its clock; b: idle for 40 s more than there were
        server.join("room")
        await replica.settle()
        await advance(100)
        server.leave("room")
        await replica.settle()
        await advance(100)
    await a.end()
    await a.settle()

    (row,), usage = world.rows("dispatches"), (await a.usage())["totals"]
    assert await b.usage() == await a.usage()
    assert row["accounted_at"] >= row["ended_at"]
    assert sum(times(usage)) == (row["accounted_at"] - row["created_at"]) / SECOND_US
    assert abs(sum(times(usage)) - 410) <= 40


async def test_csv_has_a_line_for_each_key(app: App, server: FakeServer) -> None:
    await visit(app, server, '=1+1, "a room"', talk_s=60)
    await app.end('=1+1, "a room"')
    await app.settle()
    (item,) = (await app.usage(by="room"))["items"]

    kind, text = await app.usage_text(by="room", format="csv")

    assert kind == "text/csv; charset=utf-8"
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["room"] == '\'=1+1, "a room"', "a spreadsheet takes it for text"
    assert line["dispatches"] == line["requested"] == "1"
    assert set(line) >= set(EndReason)
    assert times({name: float(line[name]) for name in line if name.endswith("S")}) == times(item)
    assert line["talkedS"] == "60.000000"

    assert await app.usage_text(by="room", accept="text/html, text/csv;q=0.9") == (kind, text)
    assert (await app.usage_text(by="room", accept="text/csv", format="json"))[0].startswith(
        "application/json"
    )
    _, by_day = await app.usage_text(by="day", format="csv")
    assert by_day.splitlines()[1].startswith(f"{TODAY},1,")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"from": "2027-02-30"}, "$.from"),
        ({"to": "tomorrow"}, "$.to"),
        ({"from": "2027-01-01T00:00:00Z"}, "$.from"),
        ({"from": "1799000000"}, "$.from"),
        ({"from": ""}, "$.from"),
        ({"to": "null"}, "$.to"),
        ({"format": "null"}, "$.format"),
        ({"from": "2027-01-02", "to": "2027-01-02"}, "not before 2027-01-02"),
        ({"from": "2027-01-03", "to": "2027-01-02"}, "not before 2027-01-02"),
        ({"from": TOMORROW}, f"not before {TOMORROW}"),
        ({"to": "0001-01-01"}, "not before 0001-01-01"),
        ({"by": "week"}, "$.by"),
        ({"format": "xml"}, "$.format"),
        ({"until": TODAY}, "until"),
    ],
)
async def test_wrong_parameters_get_a_422_that_names_them(
    app: App, params: dict[str, str], said: str
) -> None:
    answer = await app.call("GET", USAGE, params=params)
    assert (answer.status, answer.code) == (422, "invalid")
    assert said in answer.body["message"]


async def test_the_days_are_the_last_30_unless_chosen(app: App) -> None:
    body = await app.usage()
    assert (body["from"], body["to"]) == ((START - timedelta(days=29)).date().isoformat(), TOMORROW)
    assert (await app.usage(to="9999-12-31"))["from"] == "9999-12-01"
    assert (await app.usage(**{"from": "0001-01-01"}))["items"] == []


async def test_too_many_rooms_are_a_422(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in "ab":
        await app.dispatch(room)
    await app.advance(5)
    monkeypatch.setattr(control_usage, "MOST_KEYS", 1)
    answer = await app.call("GET", USAGE, params={"by": "room"})
    assert (answer.status, answer.code) == (422, "invalid")
    assert "more than 1 rooms" in answer.body["message"]
    assert (await app.call("GET", USAGE, params={"by": "agent"})).status == 200


@ON_BOTH
async def test_days_older_than_usage_days_are_deleted(start_app: StartApp, world: World) -> None:
    app = await start_app(usage_days=2)
    today = START_US // (86_400 * SECOND_US)
    for day in range(today - 4, today + 1):
        world.database.execute(
            "INSERT INTO usage (day, dispatch_row_id, agent_name, room_name,"  # noqa: S608 - a number
            " starting_us, talked_us, idle_us, unvisited_us)"
            f" VALUES ({day}, 'row', 'agent', 'room', 0, 1000000, 0, 0)"
        )
    await app.sweep()
    assert [row["day"] for row in world.rows("usage")] == [today - 2, today - 1, today]


async def test_the_seconds_of_each_kind_are_counted(app: App, server: FakeServer) -> None:
    await visit(app, server, talk_s=60)
    await app.pass_time(20)
    _, _, text = await app.scrape()
    for kind, seconds in {"starting": 2, "talked": 60, "idle": TTL_S, "unvisited": 10}.items():
        name = f'agent_lifecycle_agent_seconds_total{{agent="{AGENT}",kind="{kind}"}}'
        assert f"{name} {float(seconds)}" in text.splitlines()
    assert f'agent_seconds_total{{agent="{OTHER_AGENT}",kind="talked"}} 0.0' in text


async def test_the_dashboard_gets_30_days(app: App, server: FakeServer) -> None:
    await visit(app, server, talk_s=60)
    async with Page(app) as page:
        await page.sign_in()
        days = (await page.call("GET", "/usage")).body["days"]
    assert len(days) == 30
    assert days[-1] == {"day": TODAY, "talkedS": 60, "idleS": TTL_S - 20, "unvisitedS": 10}
    assert not any(day["talkedS"] for day in days[:-1])


def test_the_document_shows_json_and_csv(world: World) -> None:
    operation = build_document(api_endpoints(world.config))["paths"][USAGE]["get"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/csv"}
    parameters = {one["name"]: one["schema"] for one in operation["parameters"]}
    assert parameters["from"]["format"] == parameters["to"]["format"] == "date"
    assert set(parameters) == {"from", "to", "by", "format"}
