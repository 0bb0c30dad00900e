"""The stream of the dashboard: a snapshot, then changes and beats."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from app import tasks
from app.alerts.model import Alert, Alerts
from app.dashboard import feed as feed_module
from app.dashboard import messages
from app.dashboard.feed import MAX_PAGES
from app.lifecycle import Dispatch, State
from app.web.dashboard import routes
from fakes.faults import REFUSED, FailBefore
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.dashboard_page import Page
from integration.harness import BOUND_S, ON_BOTH, ON_POSTGRES, App, World

_LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def _fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll more often, to save time."""
    monkeypatch.setattr(feed_module, "_POLL_EVERY_S", 0.1)


@pytest.fixture
async def page(app: App) -> AsyncIterator[Page]:
    async with Page(app) as page:
        await page.sign_in()
        yield page


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_stream_follows_the_states_of_an_agent(app: App, page: Page, server: FakeServer) -> None:
    async with page.stream() as stream:
        assert (await stream.next("snapshot"))["agents"] == []

        await app.dispatch()
        starting = await stream.until_state("room", "starting")
        assert starting["ttlExpiresAt"] is not None
        server.join("room")
        await app.advance(1)
        active = await stream.until_state("room", "active")
        assert (active["people"], active["ttlExpiresAt"]) == (1, None)
        assert active["agentIdentity"]
        server.leave("room")
        await app.settle()
        idle = await stream.until_state("room", "idle")
        assert idle["people"] == 0
        assert idle["ttlExpiresAt"] == app.world.clock.now() // 1_000 + 300_000
        await app.pass_time(300)
        await app.pass_time(10)
        ended = await stream.until_state("room", "ended")
        assert (ended["id"], ended["endReason"]) == (starting["id"], "expired")


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_snapshot_has_live_and_recently_ended_agents(app: App, page: Page) -> None:
    await app.dispatch("living")
    await app.dispatch("ended")
    await app.advance(1)
    await app.end("ended")
    async with page.stream() as stream:
        snapshot = await stream.next("snapshot")
        states = {agent["room"]: agent["state"] for agent in snapshot["agents"]}
        assert states in ({"living": "idle", "ended": "ending"}, {"living": "idle", "ended": "ended"})


@ON_POSTGRES
@pytest.mark.usefixtures("worker")
async def test_the_stream_has_changes_of_another_replica(
    page: Page, start_app: StartApp, server: FakeServer
) -> None:
    other = await start_app()
    async with page.stream() as stream:
        await stream.next("snapshot")
        await other.dispatch()
        await stream.until_state("room", "starting")
        server.join("room")
        await other.advance(1)
        await stream.until_state("room", "active")


@pytest.mark.usefixtures("worker")
async def test_many_changes_at_once_are_one_message(app: App, page: Page) -> None:
    async with page.stream() as stream:
        await stream.next("snapshot")
        # Many changes, in far less time than the pause between two messages.
        feed = app.service.feed
        dispatches = [(await app.dispatch(f"room-{number}")).body["dispatchId"] for number in range(3)]
        row, _ = await app.service.queries.history(dispatches[0])
        for version in range(1, 500):
            feed.note(replace(row, version=row.version + version))
        received: list[dict[str, Any]] = []
        while not received or received[-1]["version"] < row.version + 499:
            message = await stream.next("changes")
            received += [agent for agent in message["agents"] if agent["id"] == row.id]
        assert len(received) <= 4


@pytest.mark.usefixtures("worker")
async def test_beats_are_sent_without_changes(app: App, page: Page) -> None:
    await app.dispatch()
    async with page.stream() as stream:
        first = await stream.next("beat")
        assert first["counts"] == {"starting": 1}
        assert (first["alerts"], first["problem"]) == ([], None)
        second = await stream.next("beat")
        assert second["minute"]["at"] == first["minute"]["at"]


async def test_a_beat_reports_a_database_outage(page: Page, world: World) -> None:
    async with page.stream() as stream:
        assert (await stream.next("beat"))["problem"] is None
        world.database_faults.down = True
        assert "database" in (await stream.beat(lambda beat: beat["problem"]))["problem"]
        world.database_faults.down = False
        await stream.beat(lambda beat: not beat["problem"])


@pytest.mark.usefixtures("worker")
async def test_a_beat_reports_a_livekit_outage(app: App, page: Page, world: World) -> None:
    world.livekit.faults.always("list_rooms", FailBefore(REFUSED))
    await app.sweep()
    async with page.stream() as stream:
        assert "LiveKit" in (await stream.next("beat"))["problem"]


async def test_after_an_unexpected_error_the_stream_goes_on(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_FIRST_DELAY_S", 0.01)
    beat = messages.beat
    async with page.stream() as stream:
        await stream.next("beat")
        slips = [KeyError("a slip")]

        def slip(*args: Any) -> messages.Beat:
            if slips:
                raise slips.pop()
            return beat(*args)

        monkeypatch.setattr(messages, "beat", slip)
        await stream.next("beat")
    assert [vars(record).get("task") for record in caplog.records] == ["dashboard feed"]


async def test_a_beat_has_the_current_alerts(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = Alert(name="no_worker", summary="No worker takes jobs.", advice="Start one.", since_at=5_000_000)
    monkeypatch.setattr(Alerts, "current", lambda _: (alert,))
    async with Page(await start_app()) as page:
        await page.sign_in()
        async with page.stream() as stream:
            (card,) = (await stream.next("beat"))["alerts"]
    assert card == {
        "name": "no_worker",
        "summary": "No worker takes jobs.",
        "advice": "Start one.",
        "since": 5_000,
    }


@pytest.mark.usefixtures("worker")
async def test_the_beat_counts_the_current_minute(app: App, page: Page) -> None:
    async with page.stream() as stream:
        await stream.next("beat")
        await app.dispatch("one")
        await app.dispatch("two")
        await app.advance(1)
        await app.dispatch("two")
        minute = (await stream.beat(lambda beat: beat["minute"]["reused"]))["minute"]
    assert (minute["created"], minute["fresh"], minute["reused"]) == (2, 2, 1)
    async with page.stream() as stream:
        assert (await stream.next("snapshot"))["minutes"][-1]["created"] == 2


async def test_the_number_of_open_pages_is_limited(app: App, page: Page) -> None:
    async with AsyncExitStack() as open_pages:
        for _ in range(MAX_PAGES):
            stream = await open_pages.enter_async_context(page.stream())
            await stream.next("snapshot")
        rejected = await page.call("GET", "/stream")
        assert (rejected.status, rejected.body["code"]) == (503, "busy")
        assert "Retry-After" in rejected.headers
    await _until_pages(app, 0)
    async with page.stream() as stream:
        await stream.next("snapshot")


async def test_a_page_that_reads_nothing_is_disconnected(
    app: App, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_PUBLISH_EVERY_S", 0.001)
    monkeypatch.setattr(routes, "_SEND_TIMEOUT_S", 0.2)
    feed = app.service.feed
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        silent.setblocking(False)
        loop = asyncio.get_running_loop()
        host, port = "127.0.0.1", app.port
        await loop.sock_connect(silent, (host, port))
        request = f"GET /dashboard/stream HTTP/1.1\r\nHost: {host}\r\nCookie: {page.cookie}\r\n\r\n"
        await loop.sock_sendall(silent, request.encode())
        await _until_pages(app, 1)
        version = 0
        while feed.pages:
            version += 1
            for number in range(1_000):
                feed.note(_dispatch(number, version))
            await asyncio.sleep(0.002)
        # The connection was aborted with its unsent data. If the kernel has reset it, only a send shows that.
        with suppress(ConnectionError):
            await loop.sock_sendall(silent, b"\r\n")
        assert not (await _read_all(silent)).endswith(_LAST_CHUNK)


async def test_an_open_page_does_not_delay_a_stop(app: App, page: Page) -> None:
    async with page.stream() as stream:
        await stream.next("snapshot")
        stopping = asyncio.create_task(app.runner.cleanup())
        await stream.end()
        await stopping


async def test_without_an_open_page_the_feed_stops(app: App, page: Page) -> None:
    async with page.stream() as stream:
        await stream.next("snapshot")
    await _until_pages(app, 0)
    (feed,) = [task for task in asyncio.all_tasks() if task.get_name() == "dashboard feed"]
    await asyncio.wait_for(feed, BOUND_S)


@pytest.mark.usefixtures("worker")
async def test_the_timeline_has_events_descriptions_and_times(
    app: App, page: Page, server: FakeServer
) -> None:
    server.join("room")
    dispatch_id = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    server.leave("room")
    await app.settle()
    line = (await page.call("GET", f"/agents/{dispatch_id}")).body
    moves = [(entry["event"], entry["fromState"], entry["toState"]) for entry in line["entries"]]
    assert moves[0] == ("intent", None, "creating")
    assert moves[-1] == ("people_out", "active", "idle")
    last = line["entries"][-1]
    assert last["what"] == "The last person left the room"
    assert last["at"] == app.world.clock.now() // 1_000
    assert (line["succeeds"], line["endReason"]) == (None, None)


async def test_the_timeline_links_to_the_previous_dispatch(app: App, page: Page, server: FakeServer) -> None:
    worker = server.start_worker("agent")
    server.join("room")
    first = (await app.dispatch()).body["dispatchId"]
    await app.advance(1)
    server.kill(worker)
    server.start_worker("agent")
    await app.advance(30)
    second = (await app.status())["dispatchId"]
    assert second != first
    line = (await page.call("GET", f"/agents/{second}")).body
    assert line["entries"][0]["what"].startswith(
        "This dispatch took over from an earlier one. The agent was lost"
    )
    before = (await page.call("GET", f"/agents/{line['succeeds']}")).body
    assert before["agent"]["dispatchId"] == first
    assert before["endReason"] == "the agent died"


async def test_an_unknown_dispatch_is_404(page: Page) -> None:
    assert (await page.call("GET", "/agents/AD_nothing")).status == 404


@pytest.mark.usefixtures("worker")
async def test_ending_an_agent_does_the_same_as_a_delete(
    app: App, page: Page, server: FakeServer, world: World
) -> None:
    await app.dispatch()
    server.join("room")
    await app.advance(1)
    async with page.stream() as stream:
        await stream.next("snapshot")
        answer = await page.end("room")
        assert (answer.status, answer.body) == (200, {"message": "The agent was ended"})
        await app.advance(6)
        ended = await stream.until_state("room", "ended")
    assert ended["endReason"] == "requested"
    assert not world.dispatches("room")
    assert not world.agents("room")
    assert (await page.end("room")).body == {"message": "The agent had already ended"}


@pytest.mark.usefixtures("worker")
async def test_an_end_that_livekit_rejects_is_an_error(app: App, page: Page, world: World) -> None:
    await app.dispatch()
    world.livekit.faults.everywhere(FailBefore(REFUSED))
    answer = await page.end("room")
    assert (answer.status, answer.body["code"]) == (502, "livekit_refused")


def _dispatch(number: int, version: int) -> Dispatch:
    return Dispatch(
        id=f"row-{number}",
        room_name=f"room-{number}",
        room_sid="RM",
        agent_name="agent",
        state=State.ACTIVE,
        created_at=0,
        last_activity_at=0,
        version=version,
    )


async def _until_pages(app: App, count: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while app.service.feed.pages != count:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def _read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(connection, 1 << 20):
            received += data
    return bytes(received)
