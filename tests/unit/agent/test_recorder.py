"""The recorder: what it loads and saves, in which order, and that no memory's trouble reaches the agent."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, llm
from livekit.protocol import agent as agent_protocol
from livekit.protocol import models
from reusable_agent import Conversation, MemoryClosedError, OnResume, Resumed, recorder
from reusable_agent.recorder import Recorder, recorder_of

CONVERSATION = Conversation(
    room_name="room", room_sid="RM_1", agent_name="agent", job_id="AJ_1", dispatch_id="AD_1"
)


@dataclass
class FakeMemory:
    """Keeps one history; each call takes the next failure, if there is one, and waits while it is shut."""

    kept: Mapping[str, Any] | None = None
    failures: list[Exception] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0

    def __post_init__(self) -> None:
        self.open.set()

    async def load(self, _: Conversation) -> Mapping[str, Any] | None:
        await self._answer("load")
        return self.kept

    async def save(self, _: Conversation, history: Mapping[str, Any]) -> None:
        # As it was when the save began.
        text = json.dumps(history)
        await self._answer("save")
        self.kept = json.loads(text)

    async def forget(self, _: Conversation) -> None:
        await self._answer("forget")
        self.kept = None

    async def _answer(self, call: str) -> None:
        self.calls.append(call)
        self.under_way += 1
        assert self.under_way == 1, "two at once"
        try:
            await self.open.wait()
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.under_way -= 1

    @property
    def texts(self) -> list[str]:
        return [item["content"][0] for item in (self.kept or {"items": []})["items"]]


class FakeSession:
    def __init__(self) -> None:
        self.history = llm.ChatContext.empty()
        self._callbacks: list[Callable[[object], None]] = []

    def on(self, event: str, callback: Callable[[object], None]) -> None:
        assert event == "conversation_item_added"
        self._callbacks.append(callback)

    def off(self, _: str, callback: Callable[[object], None]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def say(self, text: str) -> None:
        self.history.add_message(role="user", content=text)
        for callback in self._callbacks:
            callback(object())


@dataclass
class Scene:
    """A session with a recorder."""

    memory: FakeMemory
    agent: Agent
    session: FakeSession
    recorder: Recorder
    resumed: list[Resumed]

    async def begin(self) -> None:
        await self.recorder.recall(self.agent)
        self.recorder.watch(cast("AgentSession[Any]", self.session))

    async def quiet(self) -> None:
        """Until no save is under way."""
        async with asyncio.timeout(60):
            saves = [task for task in asyncio.all_tasks() if "_save_until_fresh" in repr(task)]
            await asyncio.gather(*saves, return_exceptions=True)

    def known(self) -> list[str | None]:
        return [one.text_content for one in self.agent.chat_ctx.messages()]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_SAVE_PAUSES_S", (0, 0))
    monkeypatch.setattr(recorder, "_RECALL_PAUSE_S", 0)


@pytest.fixture
async def memory() -> FakeMemory:
    return FakeMemory()


@pytest.fixture
async def scene(memory: FakeMemory) -> Scene:
    resumed: list[Resumed] = []
    return Scene(
        memory=memory,
        agent=Agent(instructions="be kind"),
        session=FakeSession(),
        recorder=Recorder(memory, CONVERSATION, resumed.append),
        resumed=resumed,
    )


def remember(memory: FakeMemory, *texts: str) -> None:
    context = llm.ChatContext.empty()
    for text in texts:
        context.add_message(role="user", content=text)
    memory.kept = context.to_dict()


async def test_each_turn_is_saved(scene: Scene) -> None:
    await scene.begin()
    assert scene.resumed == []
    for text in ("one", "two"):
        scene.session.say(text)
        await scene.quiet()
        assert scene.memory.texts[-1] == text
    assert scene.memory.calls == ["load", "save", "save"]


async def test_the_agent_goes_on_with_what_is_remembered(scene: Scene) -> None:
    remember(scene.memory, "one", "two")
    await scene.begin()
    assert scene.known() == ["one", "two"]
    await scene.recorder.tell()
    (resumed,) = scene.resumed
    assert resumed.conversation is CONVERSATION
    assert [one.text_content for one in resumed.history.messages()] == ["one", "two"]

    scene.session.say("three")
    await scene.quiet()
    assert scene.memory.texts == ["one", "two", "three"]


@pytest.mark.parametrize(
    "kept", [None, {"items": []}, {"items": [{"type": "agent_handoff", "new_agent_id": "a"}]}]
)
async def test_nobody_is_told_of_a_conversation_in_which_nothing_was_said(
    scene: Scene, kept: dict[str, Any] | None
) -> None:
    scene.memory.kept = kept
    await scene.begin()
    await scene.recorder.tell()
    assert scene.resumed == []


def fail(_: Resumed) -> None:
    raise RuntimeError


async def fail_later(_: Resumed) -> None:
    raise RuntimeError


@pytest.mark.parametrize("callback", [fail, fail_later])
async def test_a_callback_that_fails_costs_nothing(
    memory: FakeMemory, caplog: pytest.LogCaptureFixture, callback: OnResume
) -> None:
    remember(memory, "one")
    one = Recorder(memory, CONVERSATION, callback)
    await one.recall(Agent(instructions="be kind"))
    await one.tell()
    assert "the callback for a resumed conversation failed" in caplog.text


async def test_turns_that_come_during_a_save_are_one_save(scene: Scene) -> None:
    await scene.begin()
    scene.memory.open.clear()
    for number in range(10):
        scene.session.say(f"text {number}")
        await asyncio.sleep(0)
    scene.memory.open.set()
    await scene.quiet()
    assert scene.memory.calls == ["load", "save", "save"]
    assert scene.memory.texts == [f"text {number}" for number in range(10)]


async def test_a_save_that_fails_is_tried_again_with_the_newest(scene: Scene) -> None:
    await scene.begin()
    scene.memory.failures = [OSError(), OSError()]
    scene.session.say("one")
    await asyncio.sleep(0)
    scene.session.say("two")
    await scene.quiet()
    assert scene.memory.texts == ["one", "two"]
    assert scene.memory.calls == ["load", "save", "save", "save"]


async def test_a_lost_save_costs_its_turn_alone_and_is_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.begin()
    scene.memory.failures = [OSError("no network")] * 3
    scene.session.say("one")
    await scene.quiet()
    assert scene.memory.texts == []
    assert "could not be saved: OSError('no network')" in caplog.text
    scene.session.say("two")
    await scene.quiet()
    assert scene.memory.texts == ["one", "two"]


async def test_a_memory_in_trouble_for_a_moment_is_read(scene: Scene) -> None:
    remember(scene.memory, "one")
    scene.memory.failures = [OSError()] * 5
    await scene.begin()
    assert scene.known() == ["one"]


async def test_a_memory_that_does_not_answer_keeps_no_agent_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "_RECALL_TRY_S", 0.01)
    monkeypatch.setattr(recorder, "_RECALL_TIMEOUT_S", 1.0)
    remember(scene.memory, "one")
    scene.memory.open.clear()
    await scene.begin()
    assert scene.known() == []
    assert "the agent begins without it" in caplog.text
    assert len(scene.memory.calls) > 1

    # What it remembers is not overwritten, once it answers.
    scene.memory.open.set()
    scene.session.say("two")
    await scene.quiet()
    assert scene.memory.texts == ["one", "two"]


async def test_a_memory_that_returns_nonsense_counts_as_none(scene: Scene) -> None:
    scene.memory.kept = cast("Mapping[str, Any]", {"items": [{"type": "?"}, 5]})
    await scene.begin()
    assert scene.known() == []
    scene.session.say("one")
    await scene.quiet()
    assert scene.memory.kept is not None
    assert scene.memory.kept["items"][-1]["content"] == ["one"]


@pytest.mark.parametrize("at", ["load", "save"])
async def test_a_memory_that_is_closed_is_not_asked_again(
    scene: Scene, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    caplog.set_level(logging.INFO)
    if at == "load":
        scene.memory.failures = [MemoryClosedError("taken over")]
    await scene.begin()
    if at == "save":
        scene.memory.failures = [MemoryClosedError("taken over")]
    for text in ("one", "two"):
        scene.session.say(text)
        await scene.quiet()
    await scene.recorder.hand_over()
    await scene.recorder.forget()
    assert scene.memory.calls == (["load"] if at == "load" else ["load", "save"])
    assert "taken over" in caplog.text
    assert not [one for one in caplog.records if one.levelno > logging.INFO]


async def test_before_an_agent_leaves_everything_is_saved_and_nothing_after(scene: Scene) -> None:
    await scene.begin()
    scene.memory.open.clear()
    scene.session.say("one")
    await asyncio.sleep(0)
    # Without an event, as the output of a tool.
    scene.session.history.add_message(role="user", content="two")
    leaving = asyncio.create_task(scene.recorder.hand_over())
    await asyncio.sleep(0)
    scene.memory.open.set()
    await leaving
    assert scene.memory.texts == ["one", "two"]
    scene.session.say("three")
    await scene.quiet()
    assert scene.memory.texts == ["one", "two"]


async def test_a_leaving_agent_does_not_wait_long_for_its_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_LAST_SAVE_TIMEOUT_S", 0.05)
    await scene.begin()
    scene.memory.open.clear()
    scene.session.say("one")
    async with asyncio.timeout(2):
        await scene.recorder.hand_over()
    await scene.quiet()
    assert scene.memory.under_way == 0


async def test_an_agent_that_ends_its_conversation_forgets_it(scene: Scene) -> None:
    await scene.begin()
    scene.session.say("one")
    await scene.recorder.forget()
    await scene.quiet()
    assert scene.memory.kept is None
    assert scene.memory.calls[-1] == "forget"


@pytest.mark.parametrize("failure", [OSError(), MemoryClosedError("taken over")])
async def test_a_forget_that_fails_keeps_no_agent_from_leaving(scene: Scene, failure: Exception) -> None:
    await scene.begin()
    scene.memory.failures = [failure]
    await scene.recorder.forget()
    assert scene.memory.calls[-1] == "forget"


def job(type_: Any = agent_protocol.JobType.JT_ROOM) -> JobContext:
    told = agent_protocol.Job(
        id="AJ_1",
        dispatch_id="AD_1",
        type=type_,
        agent_name="agent",
        room=models.Room(name="room", sid="RM_1"),
    )
    return cast("JobContext", SimpleNamespace(job=told, room=object()))


async def sid(text: str) -> str:
    return text


async def test_the_conversation_is_that_of_the_room_that_the_session_is_in(memory: FakeMemory) -> None:
    ctx = job()
    own = await recorder_of(memory, None, ctx, ctx.room)
    assert own is not None
    assert own._conversation == CONVERSATION
    other_room = cast("rtc.Room", SimpleNamespace(name="another", sid=sid("RM_2")))
    other = await recorder_of(memory, None, ctx, other_room)
    assert other is not None
    assert (other._conversation.room_name, other._conversation.room_sid) == ("another", "RM_2")


async def test_without_a_memory_or_with_several_agents_in_a_room_nothing_is_recorded(
    memory: FakeMemory,
) -> None:
    ctx = job()
    assert await recorder_of(None, None, ctx, ctx.room) is None
    publisher = job(agent_protocol.JobType.JT_PUBLISHER)
    assert await recorder_of(memory, None, publisher, publisher.room) is None
