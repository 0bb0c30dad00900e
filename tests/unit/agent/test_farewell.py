"""The end of a session and its memory: kept for the next agent, or forgotten with the conversation."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import AgentSession, CloseEvent, CloseReason, JobContext
from reusable_agent.farewell import LEAVING_ATTRIBUTE, Farewell
from reusable_agent.recorder import Recorder


@dataclass
class FakeRecorder:
    done: list[str] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def forget(self) -> None:
        await self.may_end.wait()
        self.done.append("forget")

    async def hand_over(self) -> None:
        await self.may_end.wait()
        self.done.append("hand over")


@dataclass
class FakeParticipant:
    attributes: dict[str, str] = field(default_factory=dict)

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes |= attributes


@dataclass
class FakeRoom:
    local_participant: FakeParticipant = field(default_factory=FakeParticipant)
    connected: bool = True

    def isconnected(self) -> bool:
        return self.connected


@dataclass
class FakeContext:
    room: FakeRoom = field(default_factory=FakeRoom)
    ended: list[str] = field(default_factory=list)
    callbacks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)

    def shutdown(self, reason: str = "") -> None:
        self.ended.append(reason)

    def add_shutdown_callback(self, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.callbacks.append(callback)


class FakeSession:
    def __init__(self) -> None:
        self._on_close: list[Callable[[CloseEvent], None]] = []

    def on(self, _: str, callback: Callable[[CloseEvent], None]) -> None:
        self._on_close.append(callback)

    def shutdown(self, *, drain: bool = True) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def close(self, reason: CloseReason) -> None:
        for callback in self._on_close:
            callback(CloseEvent(reason=reason))


@dataclass
class Scene:
    """A job whose session can close."""

    ctx: FakeContext
    session: FakeSession
    recorder: FakeRecorder

    async def leave(self, reason: CloseReason) -> None:
        self.session.close(reason)
        await asyncio.sleep(0)
        # The job waits for it: its process must not end before.
        waiting = asyncio.create_task(self.ctx.callbacks[0]())
        await asyncio.sleep(0)
        assert not waiting.done()
        self.recorder.may_end.set()
        async with asyncio.timeout(60):
            await waiting


@pytest.fixture
async def scene() -> Scene:
    scene = Scene(ctx=FakeContext(), session=FakeSession(), recorder=FakeRecorder())
    farewell = Farewell(
        cast("AgentSession[Any]", scene.session),
        cast("JobContext", scene.ctx),
        cast("rtc.Room", scene.ctx.room),
        lambda: None,
    )
    farewell.watch()
    farewell.keep(cast("Recorder", scene.recorder))
    return scene


async def test_an_agent_that_ends_its_conversation_forgets_it_before_it_leaves(scene: Scene) -> None:
    scene.session.shutdown()
    await scene.leave(CloseReason.USER_INITIATED)
    assert scene.recorder.done == ["forget"]
    assert scene.ctx.room.local_participant.attributes == {LEAVING_ATTRIBUTE: "finished"}
    assert len(scene.ctx.ended) == 1


@pytest.mark.parametrize("reason", [CloseReason.JOB_SHUTDOWN, CloseReason.ERROR, CloseReason.USER_INITIATED])
async def test_an_agent_that_is_ended_or_fails_leaves_its_memory_to_the_next(
    scene: Scene, reason: CloseReason
) -> None:
    await scene.leave(reason)
    assert scene.recorder.done == ["hand over"]


async def test_an_agent_that_was_taken_out_of_its_room_has_not_ended_its_conversation(scene: Scene) -> None:
    """livekit-agents shuts such a job down as the agent itself would."""
    scene.ctx.room.connected = False
    scene.ctx.shutdown()
    await scene.leave(CloseReason.USER_INITIATED)
    assert scene.recorder.done == ["hand over"]
