"""Room names: every one that LiveKit takes, harmless wherever it is shown."""

import logging
import re
from datetime import UTC, datetime

import pytest

from app.cli.status import ask, table
from app.logs.formats import JsonForm, TextForm
from app.logs.redaction import RecordCleaner
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import API_KEY, DISPATCH, ON_BOTH, STATUS, TOKEN, App, World, member_token

NAMES = [
    "Salle à manger",
    "会议",
    "org/room",
    "../../etc/passwd",
    "'; DROP TABLE dispatches; --",
    '<img src=x onerror="alert(1)">',
    "%s %(name)s {room} ${x}",
    "50% off?a=b&roomName=other#top",
    "a\u202eb\u2028c",
    "é" * 128,
]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_every_name_can_be_dispatched_to_asked_about_and_ended(
    app: App, world: World, server: FakeServer
) -> None:
    for name in NAMES:
        server.join(name)
        assert (await app.dispatch(name)).status == 200
    await app.advance(1)
    for name in NAMES:
        assert (await app.status(name))["state"] == "active", name
        assert [one["roomName"] for one in await app.listed(roomName=name)] == [name]
        assert (await app.end(name)).status == 200
    await app.advance(6)
    assert not any(world.agents(name) for name in NAMES)


@pytest.mark.usefixtures("worker")
async def test_a_participant_may_ask_in_a_room_of_any_name(app: App) -> None:
    for name in NAMES:
        token = member_token(name)
        answer = await app.call("POST", DISPATCH, json_body={"roomName": name}, auth=token)
        assert answer.status == 200, name
        other = await app.call("GET", STATUS, params={"roomName": name + "x"}, auth=token)
        # Too long counts before another's.
        assert other.status in (403, 422), name


@pytest.mark.usefixtures("worker")
async def test_any_name_is_harmless_wherever_it_is_shown(
    app: App, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in NAMES:
        await app.dispatch(name)
    await app.advance(1)

    status = await ask(f"http://127.0.0.1:{app.port}", API_KEY)
    lines = table(status, datetime.now(UTC))
    assert all(line.isprintable() for line in lines)
    for form in (JsonForm(RecordCleaner()), TextForm(RecordCleaner())):
        written = [line for record in caplog.records for line in form.lines(record, 0)]
        assert all(line.isprintable() for line in written)
    _, _, metrics = await app.scrape()
    assert not any(name in metrics for name in NAMES)
    assert len(world.rows("dispatches")) == len(NAMES)


async def test_a_name_that_livekit_does_not_take_or_nobody_can_read_is_422(app: App, world: World) -> None:
    names = ["", " a", "a ", "\u00a0a", "a\n", "a\tb", "a\x7fb", "a\x9bb", "é" * 128 + "x", "会" * 86]
    for name in names:
        for path, field in ((DISPATCH, "roomName"), (TOKEN, "room_name")):
            answer = await app.call("POST", path, json_body={field: name})
            assert (answer.status, answer.code) == (422, "invalid"), (path, name)
    assert world.livekit.count("create_dispatch") == 0


@pytest.mark.usefixtures("worker")
async def test_the_operator_may_narrow_the_names(start_app: StartApp) -> None:
    app = await start_app(room_name_pattern=re.compile("org-[0-9]+"))
    assert (await app.dispatch("org-7")).status == 200
    answer = await app.dispatch("org-7b")
    assert (answer.status, answer.code) == (422, "invalid")
    assert "ROOM_NAME_PATTERN" in answer.body["message"]
    token = await app.call("POST", TOKEN, json_body={"room_name": "another"})
    assert token.status == 422
    # What exists already can be seen and ended, whatever its name.
    assert (await app.status("another"))["state"] == "none"
    assert (await app.end("another")).status == 200
