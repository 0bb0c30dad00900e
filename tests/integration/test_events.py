"""Events to other programs: stored with the change, and sent to a real receiver that fails in every way."""

import asyncio
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from app.database.deliveries import Deliveries
from app.database.transactions import Transactions
from app.events.deliverer import CONCURRENCY
from app.events.sender import Sender
from app.lifecycle import SECOND_US
from app.state.deliveries import FAILING_AFTER, Attempt, Delivery, receiver_label
from integration.conftest import StartApp
from integration.event_receiver import EventReceiver, answer, hang
from integration.harness import ON_BOTH, ON_POSTGRES, App, World
from integration.replicas import Replica, StartReplica

EVENTS = "/api/livekit/events"
#: Longer than all waits of an endpoint that fails.
LONGEST_WAIT_S = 800
DAY_S = 86_400
#: Longer than a delivery is leased.
LEASE_S = 31

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
async def app(start_app: StartApp, receiver: EventReceiver) -> App:
    """Sends events to the receiver."""
    return await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)


async def visit(app: App, room: str = "room") -> None:
    """Somebody gets an agent, and goes: requested, dispatched, ready, idle."""
    await app.dispatch(room)
    app.world.livekit.server.join(room, f"visitor-of-{room}")
    await app.advance(6)
    app.world.livekit.server.leave(room, f"visitor-of-{room}")
    await app.settle()


VISIT = ["requested", "dispatched", "ready", "idle"]


async def read(app: App, **params: Any) -> dict[str, Any]:
    answered = await app.call("GET", EVENTS, params={name: str(value) for name, value in params.items()})
    assert answered.status == 200, answered
    return answered.body


async def read_all(app: App) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await read(app, limit=1_000))["events"]
    return found


async def endpoints(app: App) -> list[dict[str, Any]]:
    answered = await app.call("GET", f"{EVENTS}/endpoints")
    assert answered.status == 200, answered
    found: list[dict[str, Any]] = answered.body["endpoints"]
    return found


async def pass_time_until(app: App, condition: Callable[[], bool]) -> None:
    """Whatever the waits are: a failure may be stored just after time has passed."""
    async with asyncio.timeout(60):
        while not condition():
            await app.advance(LONGEST_WAIT_S)
            await asyncio.sleep(0.05)


async def until_failures_are_stored(app: App, receiver: EventReceiver) -> None:
    """Wait until the only endpoint fails, and nothing is under way to it."""

    def is_stored() -> bool:
        (endpoint,) = app.world.rows("event_endpoints")
        failures = int(endpoint["failures"])
        return failures >= FAILING_AFTER and failures == len(receiver.came)

    async with asyncio.timeout(60):
        while not is_stored():  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.01)


async def until_endpoint(app: App, **fields: Any) -> dict[str, Any]:
    """Wait until the only endpoint has these fields."""
    async with asyncio.timeout(60):
        while True:
            (one,) = await endpoints(app)
            if fields.items() <= one.items():
                return one
            await asyncio.sleep(0.01)


@ON_BOTH
async def test_a_conversation_is_sent_in_order_and_signed(app: App, receiver: EventReceiver) -> None:
    await visit(app)
    await app.dispatch()
    await app.end()
    await app.settle()

    taken = await receiver.takes(6)

    assert receiver.types() == ["requested", "dispatched", "ready", "idle", "reused", "ended"]
    assert [one.position for one in taken] == [1, 2, 3, 4, 5, 6]
    last = taken[-1].body["data"]
    assert (last["reason"], last["state"], last["roomName"]) == ("requested", "ended", "room")
    assert len({one.body["data"]["intentId"] for one in taken}) == 1
    assert taken[1].body["data"]["dispatchId"] == last["dispatchId"]


@ON_BOTH
async def test_what_a_dead_receiver_missed_is_sent_in_order_after_a_restart(
    start_app: StartApp, world: World, receiver: EventReceiver
) -> None:
    await receiver.stop()
    first = await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)
    await visit(first)
    failing = await until_endpoint(first, state="failing", waiting=4)
    assert failing["deliveredUpTo"] == 0
    assert failing["lastError"] == "ClientConnectorError"
    await first.stop()

    port = int(receiver.url.rpartition(":")[2].partition("/")[0])
    await receiver.start(port)
    again = await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)

    await receiver.takes(4)
    assert receiver.types() == VISIT
    done = await until_endpoint(again, state="delivering", waiting=0)
    assert (done["deliveredUpTo"], done["delivered"], done["nextTryAt"]) == (4, 4, None)
    assert world.rows("event_deliveries") == []


@ON_BOTH
async def test_a_failing_event_holds_up_its_room_alone(app: App, receiver: EventReceiver) -> None:
    receiver.behave = lambda room: answer(500) if room == "bad" else None
    await visit(app, "bad")
    await visit(app, "good")
    await receiver.takes(4)
    assert (receiver.types("good"), receiver.types("bad")) == (VISIT, [])

    receiver.behave = lambda _: None
    await pass_time_until(app, lambda: len(receiver.types("bad")) >= 4)

    assert receiver.types("bad")[:4] == VISIT
    # Only the first of the room was tried before it was taken.
    tried = [one.type for one in receiver.came if one.room == "bad"]
    assert tried.count("agent.requested") > 1
    assert tried.count("agent.dispatched") == 1


async def test_single_failures_among_successes_are_logged_once_an_hour(
    app: App, receiver: EventReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    receiver.behave = lambda room: answer(400) if room.startswith("never") else None
    for number in range(3):
        await app.dispatch(f"never-{number}")
        await until_endpoint(app, state="failing")
        await app.dispatch(f"good-{number}")
        await until_endpoint(app, state="delivering", delivered=2 * number + 2)

    lines = [
        record.getMessage() for record in caplog.records if getattr(record, "action", "") == "event_delivery"
    ]
    assert lines == ["An event could not be delivered; it is tried again for a day"]


async def test_an_endpoint_that_fails_gets_one_try_at_a_time(
    app: App, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.behave = lambda _: answer(503)
    for number in range(6):
        await app.dispatch(f"room-{number}")
    await until_failures_are_stored(app, receiver)
    came, receiver.most_at_once = len(receiver.came), 0
    exchange, taken = Deliveries.exchange, list[int]()

    async def watch(deliveries: Deliveries, *arguments: Any) -> list[Delivery]:
        found = await exchange(deliveries, *arguments)
        taken.append(len(found))
        return found

    monkeypatch.setattr(Deliveries, "exchange", watch)
    is_answered = asyncio.Event()

    async def think() -> web.StreamResponse:
        await is_answered.wait()
        return web.Response(status=204)

    receiver.behave = lambda _: think
    await app.advance(LONGEST_WAIT_S)
    for number in range(6, 9):
        await app.dispatch(f"room-{number}")
    await receiver.until(lambda: len(receiver.came) > came)
    async with asyncio.timeout(60):
        while taken[-2:] != [0, 0]:  # noqa: ASYNC110 - rounds have no event
            await asyncio.sleep(0.01)

    assert (sum(taken), len(receiver.came), receiver.most_at_once) == (1, came + 1, 1)

    receiver.behave = lambda _: None
    is_answered.set()
    await pass_time_until(app, lambda: len(receiver.taken) >= 18)
    assert [receiver.types(f"room-{number}")[:2] for number in range(9)] == [VISIT[:2]] * 9


@ON_BOTH
async def test_the_end_of_an_outage_is_no_new_try_of_what_had_failed_before(
    app: App, receiver: EventReceiver
) -> None:
    """Or a few events that are never taken would begin the next outage at once, for a day."""
    receiver.behave = lambda _: answer(400)
    await app.dispatch("never")
    await app.dispatch("lately")
    await until_endpoint(app, state="failing", waiting=4)
    async with asyncio.timeout(60):
        while sum(row["attempts"] for row in app.world.rows("event_deliveries")) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    now, hour = app.world.clock.now(), 3_600 * SECOND_US
    later, earlier = now + hour, now - hour
    for change in (
        f"event_deliveries SET attempts = 6, due_at = {later} WHERE attempts = 1",
        f"event_deliveries SET queued_at = {earlier} WHERE room_name = 'never'",
        f"event_endpoints SET failures = 5, failing_since = {now}, due_at = {now}",
    ):
        app.world.database.execute(f"UPDATE {change}")

    receiver.behave = lambda _: None
    await app.dispatch("good")

    await until_endpoint(app, waiting=2)
    waiting = app.world.rows("event_deliveries")
    assert {row["room_name"] for row in waiting} == {"never"}
    assert max(row["due_at"] for row in waiting) == later


async def test_a_receiver_is_left_alone_for_as_long_as_it_says(app: App, receiver: EventReceiver) -> None:
    receiver.behave = lambda _: answer(429, **{"Retry-After": "3000"})
    await app.dispatch()
    waits = await until_endpoint(app, state="failing")
    assert waits["lastError"] == "HTTP 429"
    receiver.behave = lambda _: None

    await app.advance(2_990)
    await app.dispatch("another")
    await app.settle()
    (one,) = await endpoints(app)
    assert (len(receiver.came), one["state"]) == (1, "failing")

    await app.advance(10)
    await receiver.until(lambda: bool(receiver.types("another")))


async def test_a_receiver_that_is_gone_gets_nothing_until_the_next_start(
    app: App, start_app: StartApp, receiver: EventReceiver
) -> None:
    receiver.behave = lambda _: answer(410)
    await visit(app)
    disabled = await until_endpoint(app, state="disabled", waiting=4)
    assert (disabled["lastError"], disabled["nextTryAt"]) == ("HTTP 410", None)
    await app.advance(LONGEST_WAIT_S)
    await visit(app, "another")
    assert len(receiver.came) == 1
    await app.stop()

    receiver.behave = lambda _: None
    await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)

    await receiver.takes(8)
    assert receiver.types()[:4] == receiver.types("another")[:4] == VISIT


@ON_BOTH
async def test_an_event_is_given_up_after_a_day_and_the_next_one_goes_on(
    app: App, receiver: EventReceiver
) -> None:
    receiver.behave = lambda _: answer(500)
    await app.dispatch()
    await until_endpoint(app, state="failing")

    await app.advance(DAY_S)
    lost = await until_endpoint(app, givenUp=2)
    assert receiver.taken == []
    counts = app.service.counters.event_deliveries
    async with asyncio.timeout(60):
        while counts[receiver_label(lost["endpoint"]), "given_up"] < 2:  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.01)

    receiver.behave = lambda _: None
    await app.end()
    await pass_time_until(app, lambda: "ended" in receiver.types())
    assert "requested" not in receiver.types()

    # Whoever wants them after all has them sent again.
    replayed = await app.call("POST", f"{EVENTS}/replay", json_body={"after": 0, "before": 3})
    assert replayed.body == {"queued": 2, "success": True}
    await receiver.until(lambda: receiver.types().count("dispatched") == 1)
    assert receiver.types()[-2:] == ["requested", "dispatched"]


async def test_what_was_never_tried_is_not_given_up(
    start_app: StartApp, world: World, receiver: EventReceiver
) -> None:
    """As after a long stop of the service."""
    first = await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)
    receiver.behave = lambda _: answer(500)
    await first.dispatch()
    await until_endpoint(first, state="failing")
    await first.stop()
    receiver.behave = lambda _: None
    world.clock.advance(3 * DAY_S)

    await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)

    await receiver.takes(2)
    assert receiver.types()[:2] == VISIT[:2]


@ON_BOTH
async def test_a_receiver_that_hangs_blocks_nothing_else(
    start_app: StartApp, receiver: EventReceiver
) -> None:
    stuck = await EventReceiver(behave=lambda _: hang).start()
    app = await start_app(event_endpoints=receiver.endpoints(stuck))
    rooms = [f"room-{number}" for number in range(CONCURRENCY + 4)]

    for room in rooms:
        assert (await app.dispatch(room)).status == 200
    await receiver.takes(2 * len(rooms))
    await stuck.until(lambda: len(stuck.came) >= CONCURRENCY)

    assert stuck.most_at_once == CONCURRENCY
    assert all(receiver.types(room)[:2] == VISIT[:2] for room in rooms)
    # A stop waits for none of them either.
    async with asyncio.timeout(30):
        await app.stop()
    await stuck.stop()


@ON_BOTH
async def test_events_are_sent_again_with_the_same_ids(app: App, receiver: EventReceiver) -> None:
    await visit(app)
    first = await receiver.takes(4)

    replayed = await app.call(
        "POST", f"{EVENTS}/replay", json_body={"after": 1, "before": 4, "endpoint": receiver.url}
    )

    assert replayed.body == {"queued": 2, "success": True}
    again = (await receiver.takes(6))[4:]
    assert [one.id for one in again] == [one.id for one in first[1:3]]
    assert [one.body for one in again] == [one.body for one in first[1:3]]


@ON_BOTH
async def test_a_long_replay_lets_others_commit_in_between(
    app: App, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.behave = lambda _: answer(410)
    await app.dispatch("model")
    await until_endpoint(app, state="disabled", waiting=2)
    app.world.database.execute("DELETE FROM event_deliveries")
    app.world.database.execute(_many(2_500))
    write, numbers = Transactions.write, list[int]()

    async def watch(transactions: Transactions, work: Callable[..., Any], **options: Any) -> Any:
        done = await write(transactions, work, **options)
        numbers.append(done if isinstance(done, int) else 0)
        return done

    monkeypatch.setattr(Transactions, "write", watch)
    replayed = await app.call("POST", f"{EVENTS}/replay", json_body={"after": 0, "before": 2_402})

    assert replayed.body == {"queued": 2_401, "success": True}
    assert [number for number in numbers if number > 100] == [1_000, 1_000, 401]
    await until_endpoint(app, waiting=2_401)


async def test_events_are_sent_again_to_known_endpoints_alone(app: App) -> None:
    body = {"after": 0, "endpoint": "http://receiver.test/hook"}
    assert (await app.call("POST", f"{EVENTS}/replay", json_body=body)).code == "not_found"


@ON_BOTH
async def test_a_reader_pages_through_everything_without_an_endpoint(start_app: StartApp) -> None:
    app = await start_app()
    await visit(app)

    found, after = [], 0
    while (page := await read(app, after=after, limit=3))["events"]:
        assert (len(page["events"]) <= 3, page["missed"]) == (True, 0)
        found += page["events"]
        after = page["next"]

    assert [one["type"].removeprefix("agent.") for one in found] == VISIT
    assert [one["data"]["position"] for one in found] == [1, 2, 3, 4]
    assert (await read(app, after=after)) == {"events": [], "next": 4, "missed": 0}
    assert (await app.call("POST", f"{EVENTS}/replay", json_body={"after": 0})).code == "not_found"


@ON_BOTH
async def test_old_events_are_deleted_and_a_reader_is_told(start_app: StartApp, world: World) -> None:
    app = await start_app(event_days=2)
    await visit(app)
    await app.pass_time(2 * DAY_S + 1)
    last = world.rows("events")[-1]["position"]
    assert [row["position"] for row in world.rows("events")] == [last]

    page = await read(app, after=1)

    assert (page["missed"], page["next"]) == (last - 2, last)
    # The numbers go on.
    await app.dispatch("another")
    assert [one["data"]["position"] for one in (await read(app, after=last))["events"]] == [
        last + 1,
        last + 2,
    ]


async def test_a_position_that_is_not_there_yet_is_an_error(start_app: StartApp) -> None:
    """As after the restore of an older backup: what follows is not what the reader has not seen."""
    app = await start_app()
    await app.dispatch()

    answered = await app.call("GET", EVENTS, params={"after": "3"})

    assert (answered.status, answered.code) == (409, "conflict")
    assert "The last event has position 2" in answered.body["message"]


async def test_an_endpoint_that_is_not_in_the_settings_any_more_gets_nothing_new(
    start_app: StartApp, world: World, receiver: EventReceiver
) -> None:
    first = await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)
    await first.dispatch()
    await receiver.takes(2)
    await first.stop()
    world.clock.advance(301)

    app = await start_app()
    await visit(app, "another")
    await app.sweep()

    assert world.rows("event_deliveries") == []
    assert len(receiver.came) == len(world.rows("events")) - len(await read_all(app)) + 2
    assert await endpoints(app) == []


async def test_what_waits_for_an_endpoint_without_a_deliverer_is_deleted_after_a_day(
    start_app: StartApp, world: World, receiver: EventReceiver
) -> None:
    receiver.behave = lambda _: answer(500)
    first = await start_app(event_endpoints=receiver.endpoints(), rate_limit_per_minute=0)
    await first.dispatch()
    await until_endpoint(first, state="failing", waiting=2)
    await first.stop()
    world.clock.advance(DAY_S + 1)

    app = await start_app()
    await app.sweep()

    assert (world.rows("event_deliveries"), world.rows("event_endpoints")) == ([], [])


@ON_BOTH
async def test_what_is_deleted_before_it_was_delivered_counts_as_given_up(
    start_app: StartApp, world: World, receiver: EventReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that wait untried are not given up after a day, but do not outlive their events."""
    endpoints_ = receiver.endpoints()
    receiver.behave = lambda _: hang
    app = await start_app(event_endpoints=endpoints_, rate_limit_per_minute=0, event_days=2)
    await app.dispatch()
    await receiver.until(lambda: bool(receiver.came))
    await app.pass_time(2 * DAY_S + 1)

    assert [row["given_up"] for row in world.rows("event_endpoints")] == [2]
    assert app.service.counters.event_deliveries[receiver_label(endpoints_[0].name), "given_up"] == 2
    assert "Events that were not delivered are older than EVENT_DAYS and are deleted" in caplog.messages


async def test_an_event_that_cannot_be_sent_at_all_does_not_stop_the_others(
    app: App, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a fault of ours."""
    send = Sender.send

    async def fail(sender: Sender, delivery: Delivery) -> Attempt:
        if delivery.event.room_name == "bad":
            raise RuntimeError
        return await send(sender, delivery)

    monkeypatch.setattr(Sender, "send", fail)
    for number in range(CONCURRENCY):
        await app.dispatch("bad" if number == 0 else f"room-{number}")
    await receiver.takes(2 * (CONCURRENCY - 1))
    await until_endpoint(app, waiting=2, lastError="RuntimeError")
    monkeypatch.undo()

    await pass_time_until(app, lambda: receiver.types("bad")[:2] == VISIT[:2])


async def test_metrics_and_the_dashboard_show_how_an_endpoint_fares(
    app: App, receiver: EventReceiver
) -> None:
    receiver.behave = lambda _: answer(503)
    await visit(app)
    await until_endpoint(app, state="failing", waiting=4)
    await app.advance(4)

    def is_seen() -> bool:
        return any(one.waiting == 4 and one.health.failures for one in app.service.deliverer.statuses)

    async with asyncio.timeout(60):
        while not is_seen():  # noqa: ASYNC110 - the statuses have no event
            await asyncio.sleep(0.01)

    _, _, text = await app.scrape()
    assert receiver.url not in text
    named = f'{{receiver="{receiver_label(receiver.url)}"}}'
    assert f"agent_lifecycle_event_deliveries_waiting{named} 4.0" in text
    for name in ("event_oldest_waiting_seconds", "event_endpoint_failing_seconds"):
        assert re.search(rf"^agent_lifecycle_{name}{re.escape(named)} [1-9]", text, re.MULTILINE)
    async with app.service.feed.subscribe() as subscriber:
        await subscriber.next()
        beat = json.loads((await subscriber.next() or b"").partition(b"data: ")[2])
    (card,) = beat["endpoints"]
    assert (card["name"], card["state"], card["waiting"], card["done"]) == (receiver.url, "failing", 4, 0)
    assert card["lastError"] == "HTTP 503"


# Replicas


@pytest.fixture
async def replicas(start_replica: StartReplica, receiver: EventReceiver) -> tuple[Replica, Replica]:
    settings = {"event_endpoints": receiver.endpoints(), "rate_limit_per_minute": 0}
    return await start_replica(**settings), await start_replica(**settings)


@ON_POSTGRES
async def test_two_replicas_send_each_event_once_and_each_room_in_order(
    replicas: tuple[Replica, Replica], receiver: EventReceiver
) -> None:
    rooms = [f"room-{number}" for number in range(12)]
    for number, room in enumerate(rooms):
        await visit(replicas[number % 2].app, room)

    await receiver.until(lambda: sum(len(receiver.types(room)) for room in rooms) >= len(rooms) * 4)

    assert [receiver.types(room)[:4] for room in rooms] == [VISIT] * len(rooms)
    await until_endpoint(replicas[0].app, waiting=0)
    assert len({one.id for one in receiver.came}) == len(receiver.came)


@ON_POSTGRES
async def test_a_replica_goes_on_for_one_that_was_killed(
    replicas: tuple[Replica, Replica], receiver: EventReceiver, world: World
) -> None:
    a, b = replicas
    receiver.behave = lambda _: hang
    await visit(a.app)
    await receiver.until(lambda: bool(receiver.came))
    holders = {row["leased_by"] for row in world.rows("event_deliveries")} - {None}
    killed, other = (a, b) if holders == {a.app.service.processor.process_id} else (b, a)
    killed.die()
    receiver.behave = lambda _: None

    await other.app.advance(LEASE_S)

    await receiver.until(lambda: len(receiver.types()) >= 4)
    assert receiver.types()[:4] == VISIT
    assert [one.type for one in receiver.came[:2]] == ["agent.requested"] * 2


@ON_POSTGRES
async def test_a_new_endpoint_also_gets_what_replicas_without_it_commit(
    start_replica: StartReplica, receiver: EventReceiver
) -> None:
    """As during a rolling update."""
    old = await start_replica()
    await start_replica(event_endpoints=receiver.endpoints())

    await visit(old.app)
    # It gives the positions itself.
    await read_all(old.app)

    await receiver.takes(4)
    assert receiver.types()[:4] == VISIT


@ON_POSTGRES
@pytest.mark.parametrize("seed", range(3))
async def test_a_reader_misses_nothing_of_concurrent_commits(
    start_replica: StartReplica, world: World, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    apps = [(await start_replica(rate_limit_per_minute=0)).app for _ in range(2)]
    rooms = [f"room-{number}" for number in range(8)]
    seen: list[dict[str, Any]] = []
    is_over = asyncio.Event()

    async def act(room: str) -> None:
        for _ in range(6):
            app = chance.choice(apps)
            await (app.end(room) if chance.random() < 0.5 else app.dispatch(room))

    async def follow(app: App) -> None:
        after = 0
        while True:
            last_round = is_over.is_set()
            page = await read(app, after=after, limit=5)
            seen.extend(page["events"])
            after = page["next"]
            if last_round and not page["events"]:
                return

    reader = asyncio.ensure_future(follow(apps[seed % 2]))
    await asyncio.gather(*map(act, rooms))
    for app in apps:
        await app.settle()
    is_over.set()
    await reader

    stored = world.rows("events")
    assert [one["data"]["position"] for one in seen] == list(range(1, len(seen) + 1))
    assert {one["id"] for one in seen} == {f"evt_{row['message_id']}" for row in stored}
    of_room: defaultdict[str, list[str]] = defaultdict(list)
    for one in seen:
        of_room[one["data"]["roomName"]].append(one["id"])
    committed: defaultdict[str, list[str]] = defaultdict(list)
    for row in stored:
        committed[row["room_name"]].append(f"evt_{row['message_id']}")
    assert of_room == committed
    # Each end was announced with its change.
    ended = {one["data"]["intentId"] for one in seen if one["type"] == "agent.ended"}
    assert ended == {row["id"] for row in world.rows("dispatches") if row["state"] == "ended"}


@ON_POSTGRES
async def test_an_event_that_becomes_visible_late_gets_a_later_position(
    start_app: StartApp, world: World
) -> None:
    """Numbers of rows are given before the commit: that of another room may be visible first."""
    app = await start_app()
    await app.dispatch("model")
    world.database.execute("DELETE FROM events WHERE topic <> 'agent.requested'")
    world.database.execute(_stored("later", number=103))
    assert [one["data"]["roomName"] for one in await read_all(app)] == ["model", "later"]

    world.database.execute(_stored("not-visible-then", number=102))

    assert [one["data"]["roomName"] for one in (await read(app, after=2))["events"]] == ["not-visible-then"]


def _stored(room: str, number: int) -> str:
    return (
        "INSERT INTO events (id, message_id, at, topic, room_name, data)"  # noqa: S608 - our own values
        f" SELECT {number}, 'id-{number}', at, topic, '{room}', replace(data, 'model', '{room}')"
        " FROM events WHERE room_name = 'model'"
    )


def _many(number: int) -> str:
    return (
        "INSERT INTO events (id, message_id, at, topic, room_name, data, position)"  # noqa: S608
        " WITH RECURSIVE more (place) AS (SELECT 3 UNION ALL SELECT place + 1 FROM more"
        f" WHERE place < {number})"
        " SELECT place + 10, 'id-' || place, at, topic, room_name, data, place"
        " FROM events, more WHERE topic = 'agent.requested'"
    )
