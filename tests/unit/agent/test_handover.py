"""The hand-over to another agent: in order, once, to agents alone, and in bounded time."""

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession, JobContext
from reusable_agent import HAND_OVER_METHOD, RELIEVES_ATTRIBUTE, announcement, handover
from reusable_agent.chat import Chat
from reusable_agent.farewell import Farewell
from reusable_agent.handover import HandOver, take_over
from reusable_agent.recorder import Recorder

AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
PERSON = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD


def participant(identity: str, kind: rtc.ParticipantKind.ValueType) -> SimpleNamespace:
    return SimpleNamespace(identity=identity, kind=kind, state=rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE)


@dataclass
class FakeHelper:
    """Session, chat and farewell in one, since their order is what counts."""

    steps: list[str] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)
    is_running: bool = True
    user_state: str = "listening"
    handlers: list[Any] = field(default_factory=list)

    @property
    def input(self) -> Any:
        return SimpleNamespace(set_audio_enabled=lambda enabled: self.steps.append(f"audio {enabled}"))

    def on(self, _event: str, handler: Any) -> None:
        self.handlers.append(handler)

    def off(self, _event: str, handler: Any) -> None:
        self.handlers.remove(handler)

    def stop(self) -> None:
        self.steps.append("stop")

    def taken(self) -> list[str]:
        return ["a", "b"]

    async def finish(self) -> None:
        self.steps.append("finish")

    async def drain(self) -> None:
        if not self.is_running:
            raise RuntimeError("AgentSession isn't running")
        self.steps.append("drain")
        await self.said.wait()

    async def interrupt(self, *, force: bool) -> None:
        self.steps.append(f"interrupt {force}")

    def leave(self) -> None:
        self.steps.append("leave")

    async def save(self) -> None:
        self.steps.append("save")


@dataclass(eq=False)
class FakeRoom(rtc.EventEmitter[str]):
    """A room with an agent and a person; it is its own local participant."""

    answers: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    methods: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.remote_participants = {
            "agent-AJ_1": participant("agent-AJ_1", AGENT),
            "alice": participant("alice", PERSON),
        }

    @property
    def local_participant(self) -> "FakeRoom":
        return self

    def isconnected(self) -> bool:
        return True

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
    assert helper.steps == [
        *("stop", "audio False", "finish", "drain"),
        *("audio False", "interrupt True", "save", "leave"),
    ]
    assert helper.handlers == []


async def test_whoever_is_speaking_is_heard_to_the_end(
    room: FakeRoom, helper: FakeHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_TURN_ENDS_WITHIN_S", 0)
    helper.said.set()
    helper.user_state = "speaking"
    asked = asyncio.create_task(room.call("agent-AJ_1"))
    await asyncio.sleep(0.01)
    assert helper.steps == ["stop"]

    helper.user_state = "listening"
    for handler in helper.handlers:
        handler(None)

    assert await asked == {"taken": ["a", "b"]}
    assert helper.steps[:3] == ["stop", "audio False", "finish"]


async def test_an_agent_that_cannot_finish_leaves_all_the_same(room: FakeRoom, helper: FakeHelper) -> None:
    async def fail() -> None:
        raise OSError("a plugin has failed")

    helper.drain = fail  # type: ignore[method-assign]
    assert await room.call("agent-AJ_1") == {"taken": ["a", "b"]}
    await asyncio.sleep(0.01)
    assert helper.steps[-1] == "leave"


async def test_an_agent_of_the_same_session_that_takes_over_meanwhile_finishes_too(
    room: FakeRoom, helper: FakeHelper
) -> None:
    helper.said.set()
    begun = asyncio.Event()
    helper._update_activity_atask = asyncio.create_task(begun.wait())  # type: ignore[attr-defined]
    asked = asyncio.create_task(room.call("agent-AJ_1"))
    await asyncio.sleep(0.01)
    assert helper.steps.count("drain") == 1
    begun.set()
    await asked
    assert helper.steps.count("drain") == 2


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
    assert "interrupt True" in helper.steps


async def test_a_session_that_has_closed_hands_over_too(room: FakeRoom, helper: FakeHelper) -> None:
    helper.is_running = False
    assert await room.call("agent-AJ_1") == {"taken": ["a", "b"]}


async def test_an_agent_that_is_announced_late_takes_over_too(room: FakeRoom, helper: FakeHelper) -> None:
    """LiveKit lets it call before the others hear of it."""
    helper.said.set()
    asked = asyncio.create_task(room.call("agent-AJ_2"))
    await asyncio.sleep(0.01)
    assert helper.steps == []

    late = participant("agent-AJ_2", AGENT)
    room.remote_participants[late.identity] = late
    room.emit("participant_active", late)

    assert await asked == {"taken": ["a", "b"]}


@pytest.mark.parametrize("caller", ["alice", "nobody"])
async def test_only_an_agent_takes_over(
    room: FakeRoom, helper: FakeHelper, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcement, "_TIMEOUT_S", 0.01)
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


class FakeSpeech:
    def __init__(self, *, is_done: bool) -> None:
        self._is_done = is_done

    def done(self) -> bool:
        return self._is_done


def _chat(speeches: list[Any], current: Any = None, on_text: Any = None) -> Chat:
    """A chat in a room with Ann and Bob."""
    people = {name: SimpleNamespace(identity=name) for name in ("alice", "bob")}
    room = SimpleNamespace(unregister_text_stream_handler=lambda _: None, remote_participants=people)
    audience = SimpleNamespace(is_person=lambda _: True, people=lambda: list(people.values()))
    session = SimpleNamespace(
        reset_away_timer=lambda: None,
        generate_reply=lambda *, user_input: speeches[int(user_input)],
        current_speech=current,
    )
    terms = SimpleNamespace(on_text=on_text)
    return Chat(cast("Any", session), cast("Any", room), cast("Any", terms), cast("Any", audience))


def _write(chat: Chat, *texts: str) -> None:
    for text in texts:
        reader = SimpleNamespace(info=SimpleNamespace(stream_id=text), read_all=_reading(text))
        chat._on_stream(cast("Any", reader), "alice")


async def test_only_what_was_answered_counts_as_taken() -> None:
    """Several people's questions queue up: what waits when the time is over is left to the next agent."""
    speeches = [FakeSpeech(is_done=True), FakeSpeech(is_done=False), FakeSpeech(is_done=False)]
    chat = _chat(speeches, current=speeches[1])
    _write(chat, "0", "1", "2")
    chat.ready()
    await chat.finish()
    chat.stop()

    assert chat.taken() == ["0", "1"]


async def test_a_text_that_another_agent_has_answered_is_skipped() -> None:
    answered: list[str] = []

    async def note(_: object, event: Any) -> None:
        answered.append(event.text)

    chat = _chat([], on_text=note)
    chat.skip({"1"})
    _write(chat, "0", "1", "2")
    chat.ready()
    await chat.finish()

    assert answered == ["0", "2"]
    assert chat.taken() == ["0", "2"]


async def test_a_callback_that_takes_too_long_is_not_cancelled() -> None:
    may_end = asyncio.Event()

    async def wait(_: object, __: Any) -> None:
        await may_end.wait()

    chat = _chat([], on_text=wait)
    _write(chat, "0")
    chat.ready()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await chat.finish()
    assert chat.taken() == []
    may_end.set()
    await chat.finish()
    assert chat.taken() == ["0"]


def _reading(text: str) -> Any:
    async def read_all() -> str:
        return text

    return read_all
