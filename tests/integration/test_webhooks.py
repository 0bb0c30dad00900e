"""The webhook endpoint: verification, storage of presence, and nothing personal in the tables."""

import dataclasses
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config.settings import Keypair
from app.logs.formats import JsonForm
from app.logs.redaction import RecordCleaner
from fakes.server import FakeServer
from fakes.webhooks import SECRETS, SignedWebhook, sign
from integration.conftest import StartApp
from integration.harness import KEYPAIR, ON_BOTH, SECOND_KEYPAIR, WEBHOOK, Answer, App, World, member_token

OK = {"success": True}


@pytest.fixture
def joined(server: FakeServer, world: World) -> SignedWebhook:
    """The webhook of a person's join, not yet delivered."""
    server.join("room")
    return world.post.take()[-1]


async def post(app: App, body: bytes, keypair: Keypair = KEYPAIR) -> Answer:
    """Deliver any body with a valid signature."""
    authorization = sign(body, keypair)
    return await app.deliver(
        SignedWebhook(event="any", room_name="room", body=body, authorization=authorization)
    )


def event(**fields: Any) -> bytes:
    body = {"event": "participant_joined", "id": "EV_test", "createdAt": "1800000000"}
    room = {"name": "room", "sid": "RM_x", "creationTime": "1800000000"}
    participant = {"sid": "PA_x", "identity": "alice", "joinedAtMs": "1800000000000"}
    return json.dumps(body | {"room": room, "participant": participant} | fields).encode()


def error(code: str, message: str, *, retryable: bool = False) -> dict[str, Any]:
    return {"success": False, "code": code, "message": message, "retryable": retryable}


def error_of(answer: Answer) -> dict[str, Any]:
    """The body of an error without its request id."""
    body = dict(answer.body)
    assert body.pop("requestId") == answer.headers["X-Request-Id"]
    return body


@ON_BOTH
async def test_a_webhook_is_stored_when_it_is_answered(app: App, world: World, joined: SignedWebhook) -> None:
    answer = await app.deliver(joined)

    assert (answer.status, answer.body) == (200, OK)
    assert [row["kind"] for row in world.rows("participants")] == ["person"]


# Verification


async def test_no_header_is_401(app: App, world: World, joined: SignedWebhook) -> None:
    answer = await app.call("POST", WEBHOOK, data=joined.body, auth=None)

    assert answer.status == 401
    assert error_of(answer) == error(
        "unauthenticated", "The Authorization header with LiveKit's signature is missing"
    )
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert world.rows("participants") == []


async def test_a_signature_of_another_secret_is_401(app: App, joined: SignedWebhook) -> None:
    forged = Keypair(key=KEYPAIR.key, secret="a-guess-of-at-least-32-characters!")
    answer = await post(app, joined.body, forged)

    assert (answer.status, error_of(answer)) == (
        401,
        error("unauthenticated", "The token is not a valid LiveKit token"),
    )


async def test_an_unknown_key_is_401(app: App, joined: SignedWebhook) -> None:
    stranger = Keypair(key="stranger", secret=KEYPAIR.secret)
    answer = await post(app, joined.body, stranger)

    assert (answer.status, error_of(answer)) == (
        401,
        error("unauthenticated", "Unknown API key in the token's issuer"),
    )


async def test_garbage_in_the_header_is_401(app: App, joined: SignedWebhook) -> None:
    for garbage in ("x", "a.b.c", "Bearer", "Bearer  ", "é" * 10, "." * 5_000):
        answer = await app.deliver(dataclasses.replace(joined, authorization=garbage))
        assert (answer.status, answer.code) == (401, "unauthenticated"), garbage


async def test_an_altered_body_is_401(app: App, world: World, joined: SignedWebhook) -> None:
    altered = dataclasses.replace(joined, body=joined.body.replace(b"room", b"moor"))
    answer = await app.deliver(altered)

    assert (answer.status, error_of(answer)) == (
        401,
        error("unauthenticated", "The token signs another body"),
    )
    assert world.rows("rooms") == []


async def test_an_expired_token_is_401(app: App, joined: SignedWebhook) -> None:
    expired = sign(joined.body, KEYPAIR, valid_for_s=-120)
    answer = await app.deliver(dataclasses.replace(joined, authorization=expired))

    assert (answer.status, error_of(answer)) == (401, error("unauthenticated", "The token has expired"))


async def test_clocks_may_differ_by_half_a_minute(app: App, joined: SignedWebhook) -> None:
    late = sign(joined.body, KEYPAIR, valid_for_s=-30)
    answer = await app.deliver(dataclasses.replace(joined, authorization=late))

    assert answer.status == 200


async def test_a_participants_token_signs_no_webhook(app: App, joined: SignedWebhook) -> None:
    answer = await app.deliver(dataclasses.replace(joined, authorization=member_token("room")))

    assert (answer.status, error_of(answer)) == (
        401,
        error("unauthenticated", "The token does not sign a body"),
    )


async def test_the_second_key_is_accepted(app: App, world: World, joined: SignedWebhook) -> None:
    answer = await post(app, joined.body, SECOND_KEYPAIR)

    assert answer.status == 200
    assert len(world.rows("participants")) == 1


# Content


@pytest.mark.parametrize(
    "body",
    [
        event(event="participant_invented_next_year"),
        event(event="track_published"),
        event(event="egress_ended", room=None),
        event(room=None),
        event(room={}),
        event(room={"name": "room"}),
        event(participant=None),
        event(participant={"identity": "alice"}),
        event(id=""),
    ],
)
async def test_an_event_without_presence_is_200_and_ignored(app: App, world: World, body: bytes) -> None:
    answer = await post(app, body)

    assert (answer.status, answer.body) == (200, OK)
    assert not any(world.tables().values())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"null",
        b'"text"',
        b"7",
        b"not json",
        b'{"event": "participant_joined"',
        b"\xff\xfe{}",
        b'{"event": "\xed\xa0\x80"}',
        b'{"event": "\\ud800"}',
        b'{"event": ["a"]}',
        b'{"event": ""}',
        b"[" * 500_000,
        b'{"event":"participant_joined","room":' + b'{"room":' * 100_000,
        b'{"event":"x","extra":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        event(room="room"),
        event(room=[]),
        event(room={"name": 1, "sid": "RM_x"}),
        event(room={"name": "n" * 10_000, "sid": "RM_x"}),
        event(room={"name": "nul\0", "sid": "RM_x"}),
        event(room={"name": "room", "sid": "RM_x", "creationTime": str(2**64)}),
        event(room={"name": "room", "sid": "RM_x", "creationTime": "soon"}),
        event(room={"name": "room", "sid": "RM_x", "creationTime": -1}),
        event(room={"name": "room", "sid": "RM_x", "creationTime": "9" * 5_000}),
        event(room={"name": "room", "sid": "RM_x", "creationTime": 2**70}),
        event(participant={"sid": "PA_x", "joinedAtMs": 1.5}),
        event(participant={"sid": "PA_" + "x" * 100}),
        event(participant={"sid": "PA_x", "attributes": {"a": 1}}),
        event(participant={"sid": "PA_x", "permission": 3}),
        event(id="i" * 65),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_signed_garbage_is_400(app: App, world: World, body: bytes) -> None:
    answer = await post(app, body)

    assert (answer.status, answer.code, answer.body["retryable"]) == (400, "malformed", False)
    assert not any(world.tables().values())


_ROOM = {"name": "room", "sid": "RM_x"}
_PERSON = {"sid": "PA_x", "identity": "alice"}


@ON_BOTH
@pytest.mark.parametrize(
    "late",
    [
        {"createdAt": 2**53 - 1},
        {"createdAt": 10**10},
        {"room": {**_ROOM, "creationTime": str(2**53 - 1)}},
        {"room": {**_ROOM, "creationTime": 2**44}},
        {"room": {**_ROOM, "creationTimeMs": 2**53 - 1}},
        {"participant": {**_PERSON, "joinedAt": 2**53 - 1}},
        {"participant": {**_PERSON, "joinedAt": str(2**44)}},
        {"participant": {**_PERSON, "joinedAtMs": 10**13}},
    ],
    ids=str,
)
async def test_a_time_that_fits_no_column_is_400(app: App, world: World, late: dict[str, Any]) -> None:
    answer = await post(app, event(**late))

    assert (answer.status, answer.code) == (400, "malformed")
    assert not any(world.tables().values())


@ON_BOTH
async def test_the_last_second_that_is_taken_is_stored(app: App, world: World) -> None:
    last = 10**10 - 1
    room, person = {**_ROOM, "creationTime": last}, {**_PERSON, "joinedAt": last}
    answer = await post(app, event(createdAt=last, room=room, participant=person))

    assert answer.status == 200
    assert [row["created_at"] for row in world.rows("rooms")] == [last * 1_000_000]


@pytest.mark.parametrize(
    ("field", "value"),
    [("disconnectReason", "X" * 10_000), ("attributes", {"lk.agent_name": "n" * 10_000})],
)
async def test_an_overlong_field_that_is_stored_is_400(app: App, field: str, value: object) -> None:
    participant = {"sid": "PA_x", "identity": "agent-x", "kind": "AGENT", field: value}
    answer = await post(app, event(event="participant_left", participant=participant))

    assert (answer.status, answer.code) == (400, "malformed")


async def test_a_body_over_a_mebibyte_is_413(app: App) -> None:
    answer = await post(app, b" " * (1024 * 1024 + 1))

    assert (answer.status, error_of(answer)) == (413, error("too_large", "The body exceeds 1048576 bytes"))


async def test_a_body_that_does_not_say_how_long_it_is_is_413_at_a_mebibyte(app: App) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    signed = {"Authorization": sign(b"whatever it will be", KEYPAIR)}
    answer = await app.call("POST", WEBHOOK, data=endless(), auth=None, headers=signed)

    assert (answer.status, answer.code) == (413, "too_large")


async def test_a_body_of_a_mebibyte_is_read(app: App) -> None:
    body = event()
    answer = await post(app, body + b" " * (1024 * 1024 - len(body)))

    assert answer.status == 200


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_people_are_counted_and_dependents_are_not(
    app: App,
    world: World,
) -> None:
    await app.dispatch()
    await app.advance(1)
    room = world.livekit.server.rooms["room"]
    kinds: list[dict[str, Any]] = [
        {"kind": "EGRESS"},
        {"kind": "STANDARD", "permission": {"recorder": True}},
        {"kind": "STANDARD"},
        {"kind": "SIP"},
        {},
    ]
    for number, participant in enumerate(kinds):
        sids = {"sid": f"PA_{number}", "identity": f"p{number}"}
        body = event(
            id=f"EV_{number}",
            room={"name": "room", "sid": room.sid, "creationTimeMs": str(room.created_at // 1000)},
            participant=sids | participant,
        )
        assert (await post(app, body)).status == 200

    assert (await app.status())["participantCount"] == 3


# Repetition and order


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_a_repetition_changes_nothing(
    app: App,
    world: World,
    server: FakeServer,
) -> None:
    await app.dispatch()
    world.clock.advance(1)
    server.join("room")
    server.leave("room")
    webhooks = world.post.take()
    for webhook in webhooks:
        await app.deliver(webhook)
    # What the first ones entail, such as the look at the agent, may end after their answers.
    await app.settle()
    before = world.tables()

    for webhook in [*webhooks, *reversed(webhooks)]:
        assert (await app.deliver(webhook)).status == 200
    await app.settle()

    assert world.tables() == before


@ON_BOTH
async def test_a_leave_that_arrives_before_its_join_wins(app: App, world: World, server: FakeServer) -> None:
    server.join("room")
    server.leave("room")
    started, joined, left = world.post.take()

    for webhook in (left, joined, started):
        await app.deliver(webhook)

    assert [row["leave_reason"] for row in world.rows("participants")] == ["CLIENT_INITIATED"]


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_events_of_an_old_instance_do_not_change_the_new_one(
    app: App,
    world: World,
    server: FakeServer,
) -> None:
    server.join("room")
    await app.settle()
    server.delete_room("room")
    late = world.post.take()
    world.clock.advance(1)
    server.join("room", "bob")
    await app.dispatch()
    await app.advance(1)
    before = world.tables()

    for webhook in late:
        assert (await app.deliver(webhook)).status == 200

    assert world.tables() == before
    assert await app.state() == "active"


# What is kept


@ON_BOTH
async def test_a_database_outage_is_503_and_the_webhook_can_be_retried(
    app: App, world: World, joined: SignedWebhook
) -> None:
    world.database_faults.down = True
    answer = await app.deliver(joined)

    assert answer.status == 503
    assert error_of(answer) == error(
        "database_unavailable", "The database is not available (OperationalError)", retryable=True
    )
    assert int(answer.headers["Retry-After"]) > 0

    world.database_faults.down = False
    assert (await app.deliver(joined)).status == 200
    assert len(world.rows("participants")) == 1


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_nothing_personal_or_secret_is_kept(
    start_app: StartApp,
    world: World,
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in the database, its write-ahead log included, nor in the log at its most talkative."""
    caplog.set_level(logging.DEBUG)
    app = await start_app(log_level="DEBUG")
    await app.dispatch()
    await app.advance(1)
    server.join("room", "somebody-with-a-name")
    await app.settle()
    await post(app, event(id="EV_bad", metadata="x", room={"name": SECRETS[0] + "\0", "sid": "RM_1"}))
    world.database_faults.down = True
    server.leave("room", "somebody-with-a-name")
    lost = world.post.take()
    assert [(await app.deliver(webhook)).status for webhook in lost] == [503]
    world.database_faults.down = False
    await app.stop()

    stored = world.database.stored()
    logged = "\n".join(
        line for record in caplog.records for line in JsonForm(RecordCleaner()).lines(record, 0)
    )
    assert b"agent-AJ" in stored
    assert "transition" in logged
    for secret in (*SECRETS, "somebody-with-a-name", KEYPAIR.secret):
        assert secret.encode() not in stored
        assert secret not in logged
