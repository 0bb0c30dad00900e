"""The end of a session: the agent publishes why it leaves, and leaves."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, CloseEvent, CloseReason, JobContext

from reusable_agent.recorder import Recorder

LEAVING_ATTRIBUTE = "agent-lifecycle.leaving"
_ANNOUNCE_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)

# Where livekit-agents ends a job from outside: it closes the session as an agent itself would.
_JOB_RUNNER = "livekit.agents.ipc"


class Leaving(StrEnum):
    """Why an agent leaves its room: the values of the attribute `agent-lifecycle.leaving`."""

    FINISHED = "finished"
    WORKER_SHUTDOWN = "worker_shutdown"
    FAILED = "failed"


class Farewell:
    """Removes the agent from its room once its session is closed, whoever closed it.

    An agent with a closed session that stays in the room is the worst case: present, but deaf forever.
    """

    def __init__(
        self, session: AgentSession[Any], ctx: JobContext, room: rtc.Room, on_close: Callable[[], None]
    ) -> None:
        """`room` is the session's: the job's own, or the one that a warm agent goes into."""
        self._session = session
        self._ctx = ctx
        self._room = room
        self._on_close = on_close
        self._recorder: Recorder | None = None
        self._shutdown = ctx.shutdown
        self._shutdown_session = session.shutdown
        self._close_session = session.aclose
        self._own_decision = False
        self._hands_over = False
        self._entrypoint = asyncio.current_task()
        self._leaving: asyncio.Task[None] | None = None

    def watch(self) -> None:
        self._session.on("close", self._on_session_close)
        # livekit-agents does not tell, before the agent leaves the room, whether the agent or the worker ends
        # the job. The agent's own request passes through here, from whichever task and callback.
        self._ctx.shutdown = self._on_shutdown  # type: ignore[method-assign]
        self._session.shutdown = self._on_session_shutdown  # type: ignore[method-assign]
        self._session.aclose = self._on_session_aclose  # type: ignore[method-assign]
        if self._room is not self._ctx.room:
            # livekit-agents does both for the job's own room.
            self._room.on("disconnected", self._on_room_lost)
            self._ctx.add_shutdown_callback(self._leave_room)

    def keep(self, recorder: Recorder) -> None:
        """Let the recorder save, or forget, before the agent leaves."""
        self._recorder = recorder
        self._ctx.add_shutdown_callback(self._wait_until_saved)

    def hand_over(self) -> None:
        """Leave now: another agent has taken over, since this one's worker is emptied."""
        self._hands_over = True
        self._shutdown_session(drain=False)

    async def announce(self, why: Leaving) -> None:
        """Publish the reason as an attribute, which participant_left then carries."""
        if not self._room.isconnected():
            return
        try:
            async with asyncio.timeout(_ANNOUNCE_TIMEOUT_S):
                await self._room.local_participant.set_attributes({LEAVING_ATTRIBUTE: why})
        except Exception:  # noqa: BLE001 - the agent must leave, with or without an announcement
            _log.warning("could not publish why the agent leaves (%s)", why, exc_info=True)

    def _on_shutdown(self, reason: str = "user requested") -> None:
        self._own_decision = True
        self._shutdown(reason)

    def _on_session_shutdown(self, *, drain: bool = True) -> None:
        self._own_decision = True
        self._shutdown_session(drain=drain)

    def _on_session_aclose(self) -> Coroutine[Any, Any, None]:
        # Not a coroutine function: such a one runs later, and then the event loop is its caller.
        frame = inspect.currentframe()
        caller = frame.f_back if frame else None
        if caller is None or not caller.f_globals.get("__name__", "").startswith(_JOB_RUNNER):
            self._own_decision = True
        return self._close_session()

    def _on_session_close(self, event: CloseEvent) -> None:
        self._on_close()
        why = self._reason(event)
        if self._room.isconnected():
            _log.info("the agent session closed (%s); the agent leaves: %s", event.reason.value, why)
        # An agent that was taken out of its room has not ended its conversation.
        is_over = why is Leaving.FINISHED and self._room.isconnected()
        self._leaving = asyncio.get_running_loop().create_task(self._leave(why, is_over=is_over))

    def _reason(self, event: CloseEvent) -> Leaving:
        if event.reason is CloseReason.ERROR or self._entrypoint_failed():
            return Leaving.FAILED
        if event.reason is CloseReason.JOB_SHUTDOWN or self._hands_over:
            return Leaving.WORKER_SHUTDOWN
        if event.reason is CloseReason.USER_INITIATED and not self._own_decision:
            return Leaving.WORKER_SHUTDOWN
        return Leaving.FINISHED

    def _entrypoint_failed(self) -> bool:
        task = self._entrypoint
        return task is not None and task.done() and not task.cancelled() and task.exception() is not None

    def _on_room_lost(self, *_: object) -> None:
        self._shutdown("the session's room is disconnected")

    async def _leave_room(self) -> None:
        if self._leaving is not None:
            await asyncio.wait({self._leaving})
        await self._room.disconnect()

    async def _leave(self, why: Leaving, *, is_over: bool) -> None:
        await asyncio.gather(self.announce(why), self._record(is_over=is_over))
        with contextlib.suppress(asyncio.InvalidStateError):
            self._shutdown(f"agent session closed: {why}")

    async def _record(self, *, is_over: bool) -> None:
        """The last thing that a memory is told: before another agent can come."""
        if self._recorder:
            await (self._recorder.forget() if is_over else self._recorder.hand_over())

    async def _wait_until_saved(self) -> None:
        if self._leaving:
            await asyncio.wait([self._leaving])
