"""What `status` prints of a running service, and why it cannot."""

import asyncio
import gzip
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from app.cli.status import Status, StatusUnknown, ask, table, to_json
from app.control.readiness import Report
from app.livekit.answers import ANSWER_LIMIT
from app.web.schemas import AgentItem
from fakes.databases import Database, SqliteDatabase
from fakes.server import FakeServer
from fakes.sick_livekit import answer, sick_livekit
from integration.conftest import StartApp
from integration.harness import API_KEY, App
from integration.process import run

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return SqliteDatabase(tmp_path / "lifecycle.db")


def url_of(app: App) -> str:
    return f"http://127.0.0.1:{app.port}"


def agent(**fields: object) -> AgentItem:
    one = AgentItem(
        dispatch_id="AD_1",
        room_name="room",
        agent_name="agent",
        state="idle",
        created_at="2026-11-24T10:58:30Z",
        last_activity_at="2026-11-24T11:59:00Z",
        participant_count=0,
        ttl_expires_at="2026-11-24T12:04:05Z",
        session_ends_at=None,
        ending_soon=False,
        agent_identity=None,
        end_reason=None,
    )
    return msgspec.structs.replace(one, **fields)


def report(*, ready: bool) -> Report:
    return Report(ready=ready, database="reachable", timers="restored", livekit="reachable", missing=[])


def test_the_table_has_a_row_for_each_agent() -> None:
    agents = [
        agent(),
        agent(room_name="a-longer-name", state="active", participant_count=2, ttl_expires_at=None),
    ]
    assert table(Status(service=report(ready=True), agents=agents), NOW) == [
        "ready   LiveKit: reachable   database: reachable   timers: restored",
        "",
        "ROOM           AGENT  STATE   PEOPLE  TTL    AGE    DISPATCH",
        "room           agent  idle    0       4m 5s  1h 1m  AD_1",
        "a-longer-name  agent  active  2       -      1h 1m  AD_1",
    ]


def test_what_livekit_is_too_old_for_is_told() -> None:
    old = msgspec.structs.replace(report(ready=True), missing=["probe"])
    assert table(Status(service=old, agents=[]), NOW)[1] == "this LiveKit is too old for: probe"


def test_a_room_name_cannot_move_the_cursor() -> None:
    lines = table(Status(service=report(ready=False), agents=[agent(room_name="\033[2Jgone\n")]), NOW)
    assert lines[0].startswith("NOT READY")
    assert lines[-1].startswith("\\x1b[2Jgone\\n  agent")


def test_json_is_named_as_the_api_names_it() -> None:
    parsed = msgspec.json.decode(to_json(Status(service=report(ready=True), agents=[agent()])))
    assert (parsed["service"]["ready"], parsed["agents"][0]["roomName"]) == (True, "room")


async def test_every_page_of_the_list_is_read(app: App, server: FakeServer) -> None:
    server.start_worker("agent")
    await asyncio.gather(*(app.dispatch(f"room-{number}") for number in range(101)))
    status = await ask(url_of(app), API_KEY)
    assert len({one.room_name for one in status.agents}) == 101
    assert status.service.ready


async def test_a_key_that_is_refused_is_told(app: App) -> None:
    with pytest.raises(StatusUnknown, match="rejected the API key"):
        await ask(url_of(app), "not-a-key-of-this-service")


async def test_the_command_prints_the_table_and_says_ready_by_its_exit_code(
    start_app: StartApp, server: FakeServer
) -> None:
    app = await start_app()
    server.start_worker("agent")
    await app.dispatch("lobby")
    ended = await run("status", "--url", url_of(app))
    assert (ended.code, ended.err) == (0, "")
    assert "lobby  agent  starting" in ended.out


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    report = Report(ready=True, database="reachable", timers="restored", livekit="reachable", missing=[])
    body = msgspec.json.encode(report) + b" " * ANSWER_LIMIT
    async with sick_livekit() as one:
        one.says = answer(200, gzip.compress(body), "application/json", "Content-Encoding: gzip")
        with pytest.raises(StatusUnknown, match="not this service"):
            await ask(one.url, API_KEY)
    assert one.asked == 1


async def test_a_service_that_does_not_run_is_told() -> None:
    with pytest.raises(
        StatusUnknown, match=r"no answer at http://127.0.0.1:1: check that the service runs there"
    ):
        await ask("http://127.0.0.1:1", API_KEY)
