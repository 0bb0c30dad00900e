"""The hand-over to another agent: in order, once, to agents alone, and in bounded time."""

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession, JobContext
from reusable_agent import HAND_OVER_METHOD, RELIEVES_ATTRIBUTE, handover
from reusable_agent.chat import Chat
from reusable_agent.farewell import Farewell
from reusable_agent.handover import HandOver, take_over
from reusable_agent.recorder import Recorder

AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
PERSON = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD


@dataclass
class FakeHelper:
    """Session, chat and farewell in one, since their order is what counts."""

    steps: list[str] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)
    is_running: bool = True

    @property
    def input(self) -> Any:
        return SimpleNamespace(set_audio_enabled=lambda enabled: self.steps.append(f"audio {enabled}"))

    def stop(self) -> list[str]:
        self.steps.append("stop")
        return ["a", "b"]

    async def finish(self) -> None:
        self.steps.append("finish")

    async def drain(self) -> None:
        if not self.is_running:
            raise RuntimeError("AgentSession isn't running")
        self.steps.append("drain")
        await self.said.wait()

    def interrupt(self, *, force: bool) -> None:
        self.steps.append(f"interrupt {force}")

    def leave(self) -> None:
        self.steps.append("leave")

    async def save(self) -> None:
        self.steps.append("save")


@dataclass
class FakeRoom:
    """A room with an agent and a person; it is its own local participant."""

    answers: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    methods: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.remote_participants = {
            "agent-AJ_1": SimpleNamespace(kind=AGENT),
            "alice": SimpleNamespace(kind=PERSON),
        }

    @property
    def local_participant(self) -> "FakeRoom":
        return self

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self.methods[name] = handler

    async def perform_rpc(self, *, destination_identity: str, method: str, **_: Any) -> str:
        self.asked.append(destination_identity)
        assert method == HAND_OVER_METHOD
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async def call(self, caller: str) -> Any:
        data = rtc.RpcInvocationData("request", caller, "{}", 15.0, method=HAND_OVER_METHOD)
        return json.loads(await self.methods[HAND_OVER_METHOD](data))


@pytest.fixture
async def helper() -> FakeHelper:
    return FakeHelper()


@pytest.fixture
def room(helper: FakeHelper, monkeypatch: pytest.MonkeyPatch) -> FakeRoom:
    monkeypatch.setattr(handover, "_LEAVES_AFTER_S", 0)
    room = FakeRoom()
    HandOver(
        cast("AgentSession[Any]", helper),
        cast("rtc.Room", room),
        cast("Chat", helper),
        cast("Farewell", SimpleNamespace(hand_over=helper.leave)),
        cast("Recorder", SimpleNamespace(hand_over=helper.save)),
    ).open()
    return room


async def test_it_finishes_saves_answers_and_then_leaves(room: FakeRoom, helper: FakeHelper) -> None:
    helper.said.set()
    assert await room.call("agent-AJ_1") == {"taken": ["a", "b"]}
    await asyncio.sleep(0.01)
    assert helper.steps == ["stop", "audio False", "finish", "drain", "save", "leave"]


async def test_who_asks_again_gets_the_same_answer(room: FakeRoom, helper: FakeHelper) -> None:
    first = asyncio.create_task(room.call("agent-AJ_1"))
    await asyncio.sleep(0)
    second = asyncio.create_task(room.call("agent-AJ_1"))
    helper.said.set()
    assert await first == await second == await room.call("agent-AJ_1")
    assert helper.steps.count("drain") == 1


async def test_what_is_said_without_end_is_cut_off(
    room: FakeRoom, helper: FakeHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_FINISHES_WITHIN_S", 0.01)
    assert await room.call("agent-AJ_1") == {"taken": ["a", "b"]}
    assert helper.steps[-3:-1] == ["interrupt True", "save"]


async def test_a_session_that_has_closed_hands_over_too(room: FakeRoom, helper: FakeHelper) -> None:
    helper.is_running = False
    assert await room.call("agent-AJ_1") == {"taken": ["a", "b"]}


@pytest.mark.parametrize("caller", ["alice", "nobody"])
async def test_only_an_agent_takes_over(room: FakeRoom, helper: FakeHelper, caller: str) -> None:
    with pytest.raises(rtc.RpcError):
        await room.call(caller)
    assert helper.steps == []


def _job(former: str | None) -> JobContext:
    attributes = {RELIEVES_ATTRIBUTE: former} if former else {}

    async def connect() -> None:
        pass

    return cast("JobContext", SimpleNamespace(job=SimpleNamespace(attributes=attributes), connect=connect))


async def _take_over(room: FakeRoom, former: str | None = "agent-AJ_1") -> set[str]:
    return set(await take_over(_job(former), cast("rtc.Room", room)))


def _failed(code: rtc.RpcError.ErrorCode) -> rtc.RpcError:
    return rtc.RpcError(code, code.name)


async def test_a_successor_learns_what_was_answered() -> None:
    room = FakeRoom(answers=['{"taken": ["a"]}'])
    assert await _take_over(room) == {"a"}


@pytest.mark.parametrize("former", [None, "agent-AJ_gone"])
async def test_an_agent_without_predecessor_asks_nobody(former: str | None) -> None:
    room = FakeRoom()
    assert await _take_over(room, former) == set()
    assert room.asked == []


async def test_a_lost_answer_is_asked_for_once_more() -> None:
    lost = _failed(rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT)
    assert await _take_over(FakeRoom(answers=[lost, '{"taken": ["a"]}'])) == {"a"}
    assert await _take_over(FakeRoom(answers=[lost, lost])) == set()


async def test_an_agent_that_leaves_meanwhile_is_not_waited_for() -> None:
    room = FakeRoom(answers=[_failed(rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED)])
    assert await _take_over(room) == set()
    assert len(room.asked) == 1


async def test_a_helper_of_another_version_may_answer_anything() -> None:
    assert await _take_over(FakeRoom(answers=["no json"])) == set()
    assert await _take_over(FakeRoom(answers=["[]"])) == set()


async def test_the_texts_that_were_answered_are_remembered_and_skipped() -> None:
    room = SimpleNamespace(unregister_text_stream_handler=lambda _: None)
    terms, audience = SimpleNamespace(), SimpleNamespace()
    chat = Chat(cast("Any", None), cast("Any", room), cast("Any", terms), cast("Any", audience))
    answered: list[str] = []

    async def note(_: object, event: Any) -> None:
        answered.append(event.text)

    terms.on_text = note
    audience.is_person = lambda _: True
    room.remote_participants = {"alice": SimpleNamespace(identity="alice")}
    chat.skip({"2"})
    for number in ("1", "2", "3"):
        info = SimpleNamespace(stream_id=number)
        reader = SimpleNamespace(info=info, read_all=_reading(f"text {number}"))
        chat._on_stream(cast("Any", reader), "alice")
    chat.ready()
    await chat.finish()

    assert answered == ["text 1", "text 3"]
    assert chat.stop() == ["1", "2", "3"]


def _reading(text: str) -> Any:
    async def read_all() -> str:
        return text

    return read_all
