"""The callback that tells an agent its assignment, and the calls of its job's context that mean its room."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import JobContext
from reusable_agent import Assignment
from reusable_agent.assignment import ordinary_assignment, tell
from reusable_agent.redirection import redirect


@pytest.fixture
async def assignment() -> Assignment:
    job = SimpleNamespace(metadata="for alice", attributes={"tier": "gold"})
    return ordinary_assignment(cast("JobContext", SimpleNamespace(job=job)), rtc.Room())


async def test_an_ordinary_job_has_its_own_metadata_and_attributes(assignment: Assignment) -> None:
    assert (assignment.metadata, assignment.attributes) == ("for alice", {"tier": "gold"})
    assert not assignment.is_warm


async def test_the_callback_may_be_a_function_or_a_coroutine_function(assignment: Assignment) -> None:
    told: list[Assignment] = []

    async def note(one: Assignment) -> None:
        told.append(one)

    await tell(told.append, assignment)
    await tell(note, assignment)
    await tell(None, assignment)
    assert told == [assignment, assignment]


async def test_what_the_callback_raises_fails_the_start(assignment: Assignment) -> None:
    def decline(_: Assignment) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await tell(decline, assignment)


class FakeContext:
    """A job's context as far as `JobContext.delete_room` reads it."""

    def __init__(self, room: str) -> None:
        self.deleted: list[str] = []
        self._room = SimpleNamespace(name=room)
        self.api = SimpleNamespace(room=SimpleNamespace(delete_room=self._delete))

    @property
    def room(self) -> Any:
        return self._room

    def is_fake_job(self) -> bool:
        return False

    def delete_room(self, room_name: str | None = None) -> Any:
        return JobContext.delete_room(cast("JobContext", self), room_name)

    def _track_pending_task(self, _task: object, *, name: str) -> None:
        assert name

    async def _delete(self, request: Any) -> None:
        self.deleted.append(request.room)


async def test_the_contexts_calls_mean_the_sessions_room() -> None:
    ctx = FakeContext("agent-warm.1")
    await ctx.delete_room()
    redirect(cast("JobContext", ctx), cast("rtc.Room", SimpleNamespace(name="alices")))
    await ctx.delete_room()
    await ctx.delete_room("another")
    assert ctx.deleted == ["agent-warm.1", "alices", "another"]
    assert ctx.room.name == "agent-warm.1"
