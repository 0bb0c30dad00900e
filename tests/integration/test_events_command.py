"""What the command `events` prints of a running service, and what it has sent again."""

import pytest

from app.cli.events import table, to_json
from app.web.events import EndpointItem
from integration.conftest import StartApp
from integration.event_receiver import EventReceiver
from integration.harness import API_KEY, App
from integration.process import run

FAILING = EndpointItem(
    endpoint="https://crm.example.com/hook",
    state="failing",
    delivered_up_to=41,
    waiting=7,
    waiting_since="2026-11-24T12:00:00.000Z",
    failing_since="2026-11-24T12:00:00.000Z",
    last_error="HTTP 503",
    last_error_at="2026-11-24T12:00:10.000Z",
    next_try_at="2026-11-24T12:00:20.000Z",
    delivered=120,
    last_delivered_at=None,
    given_up=2,
)


@pytest.fixture
async def app(start_app: StartApp, receiver: EventReceiver) -> App:
    return await start_app(event_endpoints=receiver.endpoints())


def test_the_table_has_a_row_for_each_endpoint() -> None:
    head, row = table([FAILING])
    assert head.split("  ")[0] == "ENDPOINT"
    assert row.split() == [
        "https://crm.example.com/hook",
        "failing",
        "41",
        "7",
        "2",
        "HTTP",
        "503",
        "2026-11-24T12:00:20.000Z",
    ]
    # One below the other.
    assert head.index("NEXT TRY") == row.index("2026-11-24")
    assert table([]) == ["events are sent nowhere: EVENT_WEBHOOKS is not set"]
    assert '"deliveredUpTo": 41' in to_json([FAILING])


@pytest.mark.usefixtures("worker")
async def test_the_command_shows_the_endpoints_and_replays(app: App, receiver: EventReceiver) -> None:
    await app.dispatch()
    await receiver.takes(2)
    url = f"http://127.0.0.1:{app.port}"

    ended = await run("events", "--url", url, "--replay-after", "1", "--endpoint", receiver.url)
    assert (ended.code, ended.out) == (0, "Deliveries queued: 1\n")
    taken = await receiver.takes(3)
    assert taken[2].id == taken[1].id

    ended = await run("events", "--url", url)
    assert ended.code == 0
    assert receiver.url in ended.out
    ended = await run("events", "--url", url, "--replay-after", "0", "--endpoint", "http://other.test/")
    assert (ended.code, ended.out) == (1, "")
    assert "There is no such endpoint" in ended.err
    assert API_KEY not in ended.err


@pytest.mark.parametrize("given", [("--endpoint", "http://other.test/"), ("--replay-before", "7")])
async def test_a_replay_that_does_not_say_where_it_begins_is_refused(given: tuple[str, str]) -> None:
    """Else the table would be printed, as if the replay was ordered."""
    ended = await run("events", *given)
    assert (ended.code, ended.out) == (2, "")
    assert "--replay-after" in ended.err
