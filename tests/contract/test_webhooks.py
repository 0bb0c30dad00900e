"""What LiveKit posts, asserted of the fake and of the real server alike."""

import json
from typing import Any

from msgspec import structs

from app.lifecycle import UNTOLD
from app.livekit.interface import Probe
from app.livekit.webhooks import translate
from app.state.changes import RoomEvent, RoomEventKind
from app.state.presence import ParticipantKind
from contract.stage import HELPER_AGENT, Stage, agents, identity_of_agent, jobs_shown

#: Which of a webhook's many this is about.
ABOUT_PRESENCE = frozenset({"room_started", "room_finished", "participant_joined", "participant_left"})


def story(stage: Stage) -> list[tuple[str, str, str]]:
    """Event, who, and the reason of a leave."""
    found = []
    for body in stage.webhooks():
        if body["event"] in ABOUT_PRESENCE:
            participant = body.get("participant", {})
            who = participant.get("identity", "")
            reason = participant.get("disconnectReason", "") if body["event"] == "participant_left" else ""
            found.append((body["event"], who, reason))
    return found


async def until_told(stage: Stage, event: str, who: str = "") -> None:
    async def is_told() -> bool:
        return any(one[:2] == (event, who) for one in story(stage))

    await stage.until(is_told, f"{event} {who} is posted")


def bodies(stage: Stage, event: str) -> list[dict[str, Any]]:
    return [body for body in stage.webhooks() if body["event"] == event]


def read(body: dict[str, Any]) -> RoomEvent:
    event = translate(json.dumps(body).encode()).event
    assert event is not None
    return event


async def test_a_visit_is_told_in_order(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 2)
    await stage.join()
    await until_told(stage, "participant_joined", "alice")
    await stage.leave()
    await until_told(stage, "room_finished")

    assert story(stage) == [
        ("room_started", "", ""),
        ("participant_joined", "alice", ""),
        ("participant_left", "alice", "CLIENT_INITIATED"),
        ("room_finished", "", ""),
    ]


async def test_a_second_tab_is_a_leave_and_a_join(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    await stage.join()
    await until_told(stage, "participant_joined", "alice")
    await stage.join()
    await until_told(stage, "participant_left", "alice")

    async def has_joined_twice() -> bool:
        return len(bodies(stage, "participant_joined")) == 2

    await stage.until(has_joined_twice, "the second join is posted")
    assert story(stage)[1:] == [
        ("participant_joined", "alice", ""),
        ("participant_left", "alice", "DUPLICATE_IDENTITY"),
        ("participant_joined", "alice", ""),
    ]
    first, second = bodies(stage, "participant_joined")
    (left,) = bodies(stage, "participant_left")
    assert left["participant"]["sid"] == first["participant"]["sid"] != second["participant"]["sid"]


async def test_a_person_with_the_identity_of_an_agent_puts_it_out(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    await stage.livekit.create_dispatch(stage.room, HELPER_AGENT, "row", UNTOLD)
    identity = await identity_of_agent(stage)
    await until_told(stage, "participant_joined", identity)
    await stage.join(identity)
    await until_told(stage, "participant_left", identity)

    async def has_joined() -> bool:
        return len(bodies(stage, "participant_joined")) == 2

    await stage.until(has_joined, "the person's join is posted")
    assert story(stage)[1:] == [
        ("participant_joined", identity, ""),
        ("participant_left", identity, "DUPLICATE_IDENTITY"),
        ("participant_joined", identity, ""),
    ]
    (left,) = map(read, bodies(stage, "participant_left"))
    agent, person = (read(body).participant for body in bodies(stage, "participant_joined"))
    assert agent
    assert person
    assert left.participant
    assert (left.participant.sid, left.participant.kind) == (agent.sid, ParticipantKind.AGENT)
    assert person.kind is ParticipantKind.PERSON
    assert not agent.is_newer_than(person)
    assert [one.sid for one in await stage.livekit.list_participants(stage.room)] == [person.sid]

    # Whoever has the identity is asked, and no client knows the method.
    async def answers() -> bool:
        return await stage.livekit.probe(stage.room, identity) is Probe.ALIVE

    await stage.until(answers, "the person's client answers")


async def test_a_participant_reads_the_same_in_webhook_and_list(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    await stage.join()
    await until_told(stage, "participant_joined", "alice")
    await stage.livekit.create_dispatch(stage.room, HELPER_AGENT, "row", UNTOLD)
    identity = await identity_of_agent(stage)
    await until_told(stage, "participant_joined", identity)

    listed = {one.sid: one for one in await stage.livekit.list_participants(stage.room)}
    room = await stage.livekit.find_room(stage.room)
    told = [read(body) for body in bodies(stage, "participant_joined")]

    assert [event.kind for event in told] == [RoomEventKind.JOINED] * 2
    assert room is not None
    for event in told:
        assert event.participant is not None
        # A session starts after the join of its agent.
        then = structs.replace(listed[event.participant.sid], has_session=event.participant.has_session)
        assert event.participant == then
        assert (event.room.name, event.room.sid, event.room.created_at) == (
            room.name,
            room.sid,
            room.created_at,
        )


async def test_how_it_is_written(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 77)
    await stage.join()
    await until_told(stage, "participant_joined", "alice")
    (body,) = bodies(stage, "participant_joined")

    assert {"event", "id", "createdAt", "room", "participant"} <= set(body)
    assert body["createdAt"].isdigit()
    room, participant = body["room"], body["participant"]
    assert (room["departureTimeout"], room["emptyTimeout"]) == (77, 77)
    assert room["creationTime"].isdigit()
    assert room["creationTimeMs"].isdigit()
    assert room["turnPassword"]
    assert participant["joinedAtMs"].isdigit()
    assert "kind" not in participant


async def test_why_an_agent_leaves(stage: Stage) -> None:
    """Deleted, taken out, and the room deleted under it."""
    await stage.livekit.ensure_room(stage.room, 60)
    for way in ("delete", "remove", "close"):
        dispatch = await stage.livekit.create_dispatch(stage.room, HELPER_AGENT, "row", UNTOLD)
        identity = await identity_of_agent(stage)
        await until_told(stage, "participant_joined", identity)
        match way:
            case "delete":
                await stage.livekit.delete_dispatch(stage.room, dispatch.id)
            case "remove":
                await stage.livekit.remove_participant(stage.room, identity)
            case "close":
                await stage.delete_room()
        await until_told(stage, "participant_left", identity)
        assert await agents(stage) == []

    await until_told(stage, "room_finished")
    left = [read(body) for body in bodies(stage, "participant_left")]
    assert {event.participant.kind for event in left if event.participant} == {ParticipantKind.AGENT}
    assert [event.reason for event in left] == ["CLIENT_INITIATED", "PARTICIPANT_REMOVED", "ROOM_DELETED"]


async def test_a_killed_agent_is_told_as_a_lost_connection_and_keeps_its_job(
    stage: Stage,
) -> None:
    name = f"lost-{stage.room}"
    await stage.livekit.ensure_room(stage.room, 120)
    await stage.start_worker(name)
    dispatch = await stage.livekit.create_dispatch(stage.room, name, "row", UNTOLD)
    identity = await identity_of_agent(stage)
    await jobs_shown(stage, dispatch.id)
    # Killed before it is active, it would be told as participant_connection_aborted.
    await until_told(stage, "participant_joined", identity)
    await stage.kill_worker()
    await until_told(stage, "participant_left", identity)

    assert ("participant_left", identity, "CONNECTION_TIMEOUT") in story(stage)
    assert await agents(stage) == []
    (listed,) = await stage.livekit.list_dispatches(stage.room)
    assert listed.agent_identities == (identity,)
