"""A warm agent that waits: what it answers to claims, and how it ends."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import jwt
import pytest
from livekit import rtc
from livekit.agents import AgentSession, JobContext
from reusable_agent.assignment import Assignment
from reusable_agent.presence import HEALTH_METHOD, Presence
from reusable_agent.waiting import CLAIM_METHOD, NotAssignedError, Waiting, is_warm
from reusable_agent.warnings import Warnings

_ME = "agent-AJ_1"
_KEY = "a secret of at least thirty-two bytes"


@dataclass
class FakeAgent:
    identity: str = _ME
    methods: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self.methods[name] = handler

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes |= attributes


class FakeRoom(rtc.EventEmitter[str]):
    """A room whose connection takes until `may_connect` is set, and fails with `error`."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = FakeAgent()
        self.remote_participants: dict[str, object] = {"mallory": object()}
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.error: Exception | None = None
        self.history: list[str] = []

    async def connect(self, _url: str, _token: str) -> None:
        self.history.append("connecting")
        await self.may_connect.wait()
        if self.error:
            raise self.error
        self.history.append("connected")

    async def disconnect(self) -> None:
        self.history.append("disconnected")

    def isconnected(self) -> bool:
        return self.history[-1:] == ["connected"]


class World:
    """A job in a holding room, and the room that its agent shall enter."""

    def __init__(self) -> None:
        self.holding, self.room = FakeRoom(), FakeRoom()
        self.shutdown: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.ctx = SimpleNamespace(
            room=self.holding,
            job=SimpleNamespace(dispatch_id="AD_1", room=SimpleNamespace(name="agent-warm.1")),
            _info=SimpleNamespace(url="ws://livekit"),
            connect=lambda: self.holding.connect("", ""),
            _on_shutdown=_as_livekit_agents_does(self.shutdown),
        )
        session = SimpleNamespace(_is_closing=lambda: False)
        self.presence = Presence(
            cast("AgentSession[Any]", session), cast("rtc.Room", self.room), "AD_1", Warnings(None)
        )

    def wait(self) -> asyncio.Task[Assignment]:
        waiting = Waiting(cast("JobContext", self.ctx), cast("rtc.Room", self.room), self.presence)
        return asyncio.create_task(waiting.until_assigned())

    async def call(self, method: str, payload: str = "", *, caller: str = "livekit") -> Any:
        data = rtc.RpcInvocationData("request", caller, payload, 2.0, method=method)
        answer = self.holding.local_participant.methods[method](data)
        return json.loads(await answer if asyncio.iscoroutine(answer) else answer)

    async def claim(self, **changes: Any) -> Any:
        return await self.call(CLAIM_METHOD, json.dumps(_claim() | changes))

    async def refusal(self, **changes: Any) -> int:
        with pytest.raises(rtc.RpcError) as refused:
            await self.claim(**changes)
        return refused.value.code


def _as_livekit_agents_does(shutdown: asyncio.Future[object]) -> Callable[[str], None]:
    self = SimpleNamespace(_shutdown_fut=shutdown)

    def on_shutdown(reason: str) -> None:
        self._shutdown_fut.set_result(reason)

    return on_shutdown


def _claim() -> dict[str, object]:
    return {"claim": "1", "room": "alices", "token": _token(), "metadata": "m", "attributes": {"a": "b"}}


def _token(identity: str = _ME, room: str = "alices", **grants: object) -> str:
    return jwt.encode({"sub": identity, "video": {"room": room, "agent": True} | grants}, _KEY)


async def next_rounds() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def waiting(world: World) -> asyncio.Task[Assignment]:
    task = world.wait()
    await next_rounds()
    return task


@pytest.mark.parametrize(
    ("room", "expected"), [("agent-warm.1", True), ("agent-warmer", False), ("r", False)]
)
def test_a_job_is_warm_by_the_name_of_its_room(
    room: str,
    expected: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    ctx = SimpleNamespace(job=SimpleNamespace(room=SimpleNamespace(name=room)))
    assert is_warm(cast("JobContext", ctx)) is expected


async def test_a_claim_takes_it_into_the_room(world: World, waiting: asyncio.Task[Assignment]) -> None:
    assert await world.call(HEALTH_METHOD) == {"session": "waiting", "ready": True}
    assert await world.claim() == {"claimed": True}
    assigned = await waiting
    assert (assigned.metadata, assigned.attributes, assigned.is_warm) == ("m", {"a": "b"}, True)
    assert assigned.room is cast("rtc.Room", world.room)
    assert world.room.history == ["connecting", "connected"]
    # The service may ask in either room before the session has started.
    assert await world.call(HEALTH_METHOD) == {"session": "open", "ready": False}
    assert HEALTH_METHOD in world.room.local_participant.methods


@pytest.mark.parametrize("changes", [{"metadata": None, "attributes": None}, {"of a newer service": 1}])
async def test_a_claim_may_tell_nothing_and_more_than_is_known(
    world: World, waiting: asyncio.Task[Assignment], changes: dict[str, object]
) -> None:
    assert await world.claim(**changes) == {"claimed": True}
    assert (await waiting).metadata in ("", "m")


async def test_it_is_claimed_once(world: World, waiting: asyncio.Task[Assignment]) -> None:
    world.room.may_connect.clear()
    first, again = asyncio.create_task(world.claim()), asyncio.create_task(world.claim())
    await next_rounds()
    assert await world.refusal(claim="2") == 409
    first.cancel()
    world.room.may_connect.set()
    assert await again == {"claimed": True}
    assert await world.claim() == {"claimed": True}
    assert world.room.history == ["connecting", "connected"]
    await waiting


@pytest.mark.usefixtures("waiting")
async def test_a_participant_of_the_holding_room_cannot_claim(world: World) -> None:
    with pytest.raises(rtc.RpcError) as refused:
        await world.call(CLAIM_METHOD, json.dumps(_claim()), caller="mallory")
    assert refused.value.code == 403


@pytest.mark.parametrize(
    "token",
    [
        "none",
        _token(identity="mallory"),
        _token(room="mallorys"),
        _token(agent=False),
        jwt.encode({"sub": _ME}, _KEY),
        jwt.encode({"video": {"room": "alices", "agent": True}}, _KEY),
    ],
)
@pytest.mark.usefixtures("waiting")
async def test_a_token_that_is_not_for_this_agent_in_this_room_is_refused(world: World, token: str) -> None:
    assert await world.refusal(token=token) == 403
    assert world.room.history == []


@pytest.mark.parametrize(
    "payload", ["", "{", "[]", "1", '{"claim": "1"}', json.dumps(_claim() | {"attributes": ["a"]})]
)
@pytest.mark.usefixtures("waiting")
async def test_a_malformed_claim_is_refused(world: World, payload: str) -> None:
    with pytest.raises(rtc.RpcError) as refused:
        await world.call(CLAIM_METHOD, payload)
    assert refused.value.code == 400
    assert await world.claim() == {"claimed": True}


async def test_the_refusal_of_a_room_that_cannot_be_entered_has_the_reason_and_no_token(
    world: World, waiting: asyncio.Task[Assignment]
) -> None:
    token = _token()
    world.room.error = rtc.ConnectError(f"401 invalid token: {token}")
    with pytest.raises(rtc.RpcError) as refused:
        await world.claim(token=token)
    assert refused.value.code == 500
    assert refused.value.message == "could not enter the room: 401 invalid token: ..."
    # It stays a moment, so that the answer gets out; not when the job ends anyway.
    await next_rounds()
    assert not waiting.done()
    world.shutdown.set_result("the holding room was deleted")
    with pytest.raises(rtc.ConnectError):
        await waiting


async def test_when_its_job_ends_it_stops_waiting_and_refuses_claims(
    world: World, waiting: asyncio.Task[Assignment]
) -> None:
    world.shutdown.set_result("the dispatch was deleted")
    assert await world.refusal() == 410
    with pytest.raises(NotAssignedError):
        await waiting
    assert world.room.history == []


async def test_a_claim_that_comes_with_the_end_is_refused_at_once(
    world: World, waiting: asyncio.Task[Assignment]
) -> None:
    claim = asyncio.create_task(world.refusal())
    await asyncio.sleep(0)
    world.shutdown.set_result("the worker stops")
    assert await claim == 410
    with pytest.raises(NotAssignedError):
        await waiting
    assert world.room.history == []


async def test_without_livekit_agents_own_word_the_holding_rooms_end_ends_it(world: World) -> None:
    del world.ctx._on_shutdown
    waiting = world.wait()
    await next_rounds()
    world.holding.emit("disconnected", 0)
    world.holding.emit("disconnected", 0)
    with pytest.raises(NotAssignedError):
        await waiting


async def test_a_claim_that_is_given_up_while_it_connects_leaves_the_room_again(
    world: World, waiting: asyncio.Task[Assignment]
) -> None:
    world.room.may_connect.clear()
    claim = asyncio.create_task(world.refusal())
    await next_rounds()
    world.shutdown.set_result("the holding room was deleted")
    await next_rounds()
    assert not waiting.done()
    world.room.may_connect.set()
    with pytest.raises(NotAssignedError):
        await waiting
    assert world.room.history == ["connecting", "connected", "disconnected"]
    assert await claim == 410
    assert HEALTH_METHOD not in world.room.local_participant.methods


async def test_a_connection_that_is_cancelled_is_awaited(
    world: World, waiting: asyncio.Task[Assignment]
) -> None:
    world.room.may_connect.clear()
    claim = asyncio.create_task(world.claim())
    await next_rounds()
    waiting.cancel()
    await next_rounds()
    assert not waiting.done()
    world.room.may_connect.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert world.room.history == ["connecting", "connected"]
    claim.cancel()


async def test_livekit_agents_logs_no_exception_for_an_agent_that_was_not_needed(
    world: World, waiting: asyncio.Task[Assignment], caplog: pytest.LogCaptureFixture
) -> None:
    world.shutdown.set_result("old")
    with pytest.raises(NotAssignedError) as ended:
        await waiting
    log = logging.getLogger("livekit.agents")
    log.error("unhandled exception while running the job task", exc_info=ended.value)
    assert caplog.records == []
    log.error("unhandled exception while running the job task", exc_info=RuntimeError("a bug"))
    log.error("another error")
    assert len(caplog.records) == 2
