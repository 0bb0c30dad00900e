"""Memories of conversations: who may save, how they are stored, and who may make the service forget."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from app.config.agents import AgentPolicy, MemberEnd
from app.web.memory import HISTORY_BYTES
from fakes.clock import SECOND_US
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    ON_BOTH,
    ON_POSTGRES,
    OTHER_AGENT,
    SECOND_KEYPAIR,
    Answer,
    App,
    World,
    member_token,
    signing_with,
)
from integration.replicas import StartReplica

MEMORY = "/api/livekit/memory"
WORD = "xylophone"
HISTORY = {"items": [{"type": "message", "role": "user", "content": [f"my secret is {WORD}"]}]}
LATER = {"items": [*HISTORY["items"], {"type": "message", "role": "assistant", "content": ["so what"]}]}
DAY_S = 86_400


@pytest.fixture
async def memory_app(start_app: StartApp) -> App:
    return await start_app(conversation_memory=True)


def named(job: str, **changes: Any) -> dict[str, Any]:
    fields = {"roomName": "room", "roomSid": "RM_1", "agentName": AGENT, "dispatchId": "AD_unknown"}
    return fields | {"jobId": job} | changes


async def load(app: App, job: str = "AJ_1", **changes: Any) -> Answer:
    return await app.call_as_worker("memory/load", named(job, **changes))


async def save(
    app: App, job: str = "AJ_1", number: int = 1, history: Any = HISTORY, **changes: Any
) -> Answer:
    return await app.call_as_worker("memory/save", named(job, number=number, history=history, **changes))


async def forget(app: App, job: str = "AJ_1", **changes: Any) -> Answer:
    return await app.call_as_worker("memory/forget", named(job, **changes))


async def forget_room(app: App, **call: Any) -> Answer:
    return await app.call("DELETE", MEMORY, **({"params": {"roomName": "room"}} | call))


async def remembered(app: App, job: str = "AJ_next", **changes: Any) -> Any:
    answer = await load(app, job, **changes)
    assert answer.status == 200, answer
    return answer.body["history"]


async def talk(app: App, **changes: Any) -> None:
    """One agent loads and saves."""
    assert (await load(app, **changes)).status == 200
    assert (await save(app, **changes)).status == 200


# What is stored


@ON_BOTH
async def test_what_is_saved_is_loaded_by_the_next_agent(memory_app: App, world: World) -> None:
    assert await remembered(memory_app, "AJ_1") is None
    assert (await save(memory_app)).status == 200
    world.clock.advance(5)

    answer = await load(memory_app, "AJ_2")

    assert answer.body == {"success": True, "history": HISTORY, "savedAt": "2027-01-15T08:00:00.000Z"}


@ON_BOTH
async def test_a_memory_is_in_the_database_but_its_words_are_not(
    start_app: StartApp, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = await start_app(conversation_memory=True)
    await talk(app)
    assert await remembered(app) == HISTORY
    [row] = world.rows("memories")
    assert len(row["ciphertext"]) > len(WORD)
    assert WORD.encode() not in world.database.stored()
    _, _, metrics = await app.scrape()
    assert WORD not in metrics + caplog.text


async def test_two_saves_of_the_same_look_different(memory_app: App, world: World) -> None:
    stored = set()
    for number in (1, 2):
        await load(memory_app)
        await save(memory_app, number=number)
        stored.add(bytes(world.rows("memories")[0]["ciphertext"]))
    assert len(stored) == 2


async def test_a_memory_survives_a_restart(start_app: StartApp) -> None:
    app = await start_app(conversation_memory=True)
    await talk(app)
    await app.stop()
    assert await remembered(await start_app(conversation_memory=True)) == HISTORY


@ON_POSTGRES
async def test_one_replica_loads_what_another_has_saved(start_replica: StartReplica) -> None:
    a, b = [(await start_replica(conversation_memory=True)).app for _ in range(2)]
    await load(a)
    await save(b)
    assert await remembered(b, "AJ_2") == HISTORY
    assert (await save(a, number=2)).code == "memory_taken"


async def test_what_is_too_large_or_no_object_is_rejected(memory_app: App, world: World) -> None:
    await load(memory_app)
    # As the harness writes it.
    frame = len('{"items": [""]}')
    for number, (size, status) in enumerate(
        ((HISTORY_BYTES, 200), (HISTORY_BYTES + 1, 413), (2 * HISTORY_BYTES, 413)), start=1
    ):
        answer = await save(memory_app, number=number, history={"items": ["x" * (size - frame)]})
        assert answer.status == status, (size, answer.body)
    wrong: tuple[Any, ...] = ([], "text", None, 5)
    for history in wrong:
        assert (await save(memory_app, number=9, history=history)).status == 422
    assert len((await remembered(memory_app))["items"][0]) == HISTORY_BYTES - frame
    assert len(world.rows("memories")) == 1


# Off by default


async def test_by_default_nothing_is_kept(app: App, world: World) -> None:
    for answer in (await load(app), await save(app), await forget(app), await forget_room(app)):
        assert (answer.status, answer.code, answer.body["retryable"]) == (404, "memory_off", False)
    assert world.rows("memories") == []


async def test_a_service_that_is_to_keep_nothing_forgets_what_there_is(
    start_app: StartApp, world: World
) -> None:
    app = await start_app(conversation_memory=True)
    await talk(app)
    await app.stop()
    await (await start_app()).sweep()
    assert world.rows("memories") == []


# Keys


async def test_keys_are_rotated_without_losing_a_memory(start_app: StartApp) -> None:
    old, new = "the-old-key-of-at-least-32-characters", "the-new-key-of-at-least-32-characters"
    for keys in ((old,), (new, old), (new,)):
        app = await start_app(conversation_memory=True, memory_keys=keys)
        job = f"AJ_{len(keys)}_{keys[0][4:7]}"
        found = await remembered(app, job)
        assert found == (None if keys == (old,) else HISTORY)
        assert (await save(app, job)).status == 200
        await app.stop()


async def test_without_a_key_livekits_secrets_encrypt(start_app: StartApp) -> None:
    app = await start_app(conversation_memory=True)
    await talk(app)
    await app.stop()
    changed = signing_with(SECOND_KEYPAIR)
    former = (replace(SECOND_KEYPAIR, key="devkey", secret="dev-secret-of-at-least-32-characters"),)
    app = await start_app(conversation_memory=True, **changed, webhook_keys=former)
    answer = await app.call_as_worker("memory/load", named("AJ_2"), keypair=SECOND_KEYPAIR)
    assert answer.body["history"] == HISTORY


async def test_a_memory_whose_key_is_gone_counts_as_none(
    start_app: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(conversation_memory=True, memory_keys=("one-key-of-at-least-32-characters",))
    await talk(app)
    await app.stop()
    app = await start_app(conversation_memory=True, memory_keys=("another-key-of-32-characters-or-more",))
    assert await remembered(app, "AJ_2") is None
    assert "A memory of a conversation cannot be decrypted" in caplog.text
    assert (await save(app, "AJ_2")).status == 200
    assert await remembered(app, "AJ_3") == HISTORY


@pytest.mark.parametrize("harm", ["a bit", "another conversation's", "a piece", "nothing left"])
async def test_a_memory_that_was_changed_in_the_database_counts_as_none(
    memory_app: App, world: World, harm: str
) -> None:
    await talk(memory_app)
    await talk(memory_app, roomSid="RM_2")
    changes = {
        "a bit": "ciphertext = CAST(substr(ciphertext, 1, length(ciphertext) - 1) || x'00' AS BLOB)",
        "another conversation's": (
            "ciphertext = (SELECT ciphertext FROM memories AS other WHERE other.room_sid = 'RM_2')"
        ),
        "a piece": "ciphertext = substr(ciphertext, 1, 14)",
        "nothing left": "ciphertext = x''",
    }
    world.database.execute(f"UPDATE memories SET {changes[harm]} WHERE room_sid = 'RM_1'")  # noqa: S608 - a test's
    assert await remembered(memory_app) is None
    assert await remembered(memory_app, roomSid="RM_2") == HISTORY
    _, _, metrics = await memory_app.scrape()
    line = 'agent_lifecycle_memory_operations_total{operation="load",result="unreadable"} 1'
    assert line in metrics


# Who may save


@ON_BOTH
async def test_only_who_has_loaded_last_can_save(memory_app: App) -> None:
    """A frozen agent that wakes up overwrites nothing of the one in its place."""
    await talk(memory_app)
    assert await remembered(memory_app, "AJ_2") == HISTORY

    late = await save(memory_app, "AJ_1", 2, {"items": []})

    assert (late.status, late.code) == (409, "memory_taken")
    assert (await forget(memory_app, "AJ_1")).code == "memory_taken"
    assert (await save(memory_app, "AJ_2", 1, LATER)).status == 200
    assert await remembered(memory_app) == LATER


@ON_BOTH
async def test_what_is_sent_again_changes_nothing(memory_app: App) -> None:
    """Of a load or a save whose answer was lost, also when it arrives after a newer one."""
    await talk(memory_app)
    assert (await save(memory_app, number=2, history=LATER)).status == 200
    for number in (1, 2):
        assert (await save(memory_app, number=number)).status == 200
    assert await remembered(memory_app, "AJ_1") == LATER
    assert (await save(memory_app, number=2)).status == 200
    assert await remembered(memory_app, "AJ_1") == LATER
    for _ in range(2):
        assert (await forget(memory_app)).status == 200


@ON_BOTH
async def test_after_a_forget_nothing_is_saved_until_the_next_load(memory_app: App, world: World) -> None:
    await talk(memory_app)
    assert (await forget(memory_app)).status == 200
    assert world.rows("memories") == []
    late = await save(memory_app, number=2)
    assert (late.status, late.code) == (409, "memory_forgotten")
    assert await remembered(memory_app, "AJ_1") is None
    assert (await save(memory_app, number=3)).status == 200


async def test_each_instance_of_a_room_and_each_agent_name_has_its_own(memory_app: App) -> None:
    """Also where the webhook of the end of the room before was lost."""
    await talk(memory_app)
    assert await remembered(memory_app, roomSid="RM_later") is None
    assert await remembered(memory_app, agentName=OTHER_AGENT) is None
    assert await remembered(memory_app, agentName="") is None
    assert await remembered(memory_app) == HISTORY


@pytest.mark.parametrize(
    "change",
    [{"roomSid": ""}, {"jobId": "a b"}, {"agentName": "a\0b"}, {"dispatchId": "x" * 65}, {"more": 1}],
)
async def test_a_name_that_is_none_is_422(memory_app: App, change: dict[str, Any]) -> None:
    assert (await load(memory_app, **change)).status == 422


# How long


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_after_its_time_a_memory_is_gone_and_the_agent_may_still_save(
    memory_app: App, world: World, server: FakeServer
) -> None:
    await memory_app.dispatch()
    server.join("room")
    await memory_app.advance(6)
    own = {"roomSid": server.rooms["room"].sid}
    await talk(memory_app, **own)
    await talk(memory_app, roomSid="RM_of_no_dispatch")

    await memory_app.advance(DAY_S - 1)
    assert await remembered(memory_app, "AJ_1", **own) == HISTORY
    await memory_app.advance(1)
    assert await remembered(memory_app, "AJ_1", **own) is None
    await memory_app.sweep()

    [row] = world.rows("memories")
    assert (row["room_sid"], row["ciphertext"], row["saved_at"]) == (own["roomSid"], None, None)
    assert (await save(memory_app, number=2, **own)).status == 200
    assert await remembered(memory_app, **own) == HISTORY


async def test_its_time_begins_with_each_save(start_app: StartApp, world: World) -> None:
    app = await start_app(conversation_memory=True, memory_ttl_s=100)
    await talk(app)
    world.clock.advance(60)
    await save(app, number=2)
    [row] = world.rows("memories")
    assert row["expires_at"] - world.clock.now() == 100 * SECOND_US
    world.clock.advance(60)
    assert await remembered(app) == HISTORY


# Who may make it forget


@ON_BOTH
async def test_a_room_is_forgotten_at_once(memory_app: App, world: World) -> None:
    for agent in (AGENT, OTHER_AGENT):
        await talk(memory_app, agentName=agent)
    await talk(memory_app, roomName="another", roomSid="RM_9")
    one = await forget_room(memory_app, params={"roomName": "room", "agentName": OTHER_AGENT})
    assert (one.status, one.body) == (200, {"success": True, "forgotten": 1})
    assert await remembered(memory_app, "AJ_1") == HISTORY
    assert (await forget_room(memory_app)).body["forgotten"] == 1
    assert (await forget_room(memory_app)).body["forgotten"] == 0
    assert [row["room_name"] for row in world.rows("memories")] == ["another"]
    assert (await save(memory_app, number=2)).code == "memory_forgotten"


@pytest.mark.parametrize("end", MemberEnd)
async def test_a_member_may_forget_what_it_may_end(start_app: StartApp, end: MemberEnd) -> None:
    policy = AgentPolicy(ttl_s=300, join_timeout_s=15)
    agents = {AGENT: policy, OTHER_AGENT: replace(policy, members_may_end=end)}
    app = await start_app(conversation_memory=True, agents=agents)
    member = member_token("room")
    for agent in (AGENT, OTHER_AGENT, None):
        await talk(app)
        params = {"roomName": "room"} | ({"agentName": agent} if agent else {})
        may = agent == AGENT or end is MemberEnd.ALWAYS
        answer = await forget_room(app, auth=member, params=params)
        assert answer.status == (200 if may else 403), (agent, answer)
    assert (await forget_room(app, auth=member_token("another"))).status == 403
