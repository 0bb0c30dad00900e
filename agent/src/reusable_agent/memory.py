"""Memory: what outlives an agent of its conversation, for the agent that goes on with it."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import JobContext, llm, utils

from reusable_agent.lifecycle_service import URL_VARIABLE, LifecycleService, ServiceRefusedError

_TIMEOUT_S = 2.0
_SID_TIMEOUT_S = 5.0
_NOT_FOUND, _CONFLICT = 404, 409

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Whose memory it is: that of one agent name in one instance of a room.

    Attributes:
        room_sid: the instance of the room. A later room of the same name is another conversation.
        job_id: of the agent that asks; each agent of a conversation has another.
    """

    room_name: str
    room_sid: str
    agent_name: str
    job_id: str
    dispatch_id: str


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The agent goes on with a conversation that another one began.

    Attributes:
        history: what was said until then; it is in the agent's chat context already.
    """

    conversation: Conversation
    history: llm.ChatContext


OnResume = Callable[[Resumed], Awaitable[object] | None]


class MemoryClosedError(Exception):
    """Raised by a memory: this agent is not to ask again, nor to save."""


class Memory(Protocol):
    """Where histories are kept. A history is a dict as `ChatContext.to_dict` makes it, ready for JSON.

    A call that raises is repeated, unless it raises MemoryClosedError.
    """

    async def load(self, conversation: Conversation) -> Mapping[str, Any] | None:
        """What was saved last, by whichever job; None if nothing was, or it was forgotten."""

    async def save(self, conversation: Conversation, history: Mapping[str, Any]) -> None:
        """Keep this in the place of what was saved before."""

    async def forget(self, conversation: Conversation) -> None:
        """Delete what was saved: the agent has ended its conversation."""


def service_memory() -> Memory | None:
    """The agent lifecycle service as a memory; None without AGENT_LIFECYCLE_URL and LiveKit's key."""
    service = LifecycleService.from_environment()
    if service is None:
        _note_no_service()
        return None
    return ServiceMemory(service)


class ServiceMemory:
    """Keeps histories in the agent lifecycle service, which encrypts and forgets them."""

    def __init__(self, service: LifecycleService) -> None:
        self._service = service
        self._number = 0

    async def load(self, conversation: Conversation) -> Mapping[str, Any] | None:
        answer = await self._post("load", conversation)
        history = answer.get("history")
        return history if isinstance(history, dict) else None

    async def save(self, conversation: Conversation, history: Mapping[str, Any]) -> None:
        # An older save whose answer was lost may arrive after a newer one.
        self._number += 1
        await self._post("save", conversation, number=self._number, history=history)

    async def forget(self, conversation: Conversation) -> None:
        await self._post("forget", conversation)

    async def _post(self, what: str, conversation: Conversation, **content: Any) -> dict[str, Any]:
        names = {
            "roomName": conversation.room_name,
            "roomSid": conversation.room_sid,
            "agentName": conversation.agent_name,
            "jobId": conversation.job_id,
            "dispatchId": conversation.dispatch_id,
        }
        session = utils.http_context.http_session()
        try:
            return await self._service.post(session, f"memory/{what}", names | content, timeout_s=_TIMEOUT_S)
        except ServiceRefusedError as error:
            if error.status == _NOT_FOUND:
                _note_off(self._service.url)
            elif error.status != _CONFLICT:
                raise
            raise MemoryClosedError(str(error)) from error


async def conversation_of(ctx: JobContext, room: rtc.Room) -> Conversation:
    """The conversation of a job's session in `room`, which may be another one than the job's."""
    job = ctx.job
    is_own = room is ctx.room
    async with asyncio.timeout(_SID_TIMEOUT_S):
        room_sid = (job.room.sid if is_own else "") or await room.sid
    return Conversation(
        room_name=job.room.name if is_own else room.name,
        room_sid=room_sid,
        agent_name=job.agent_name,
        job_id=job.id,
        dispatch_id=job.dispatch_id,
    )


@functools.cache
def _note_no_service() -> None:
    _log.warning("no memory of conversations: %s or LiveKit's key is not set", URL_VARIABLE)


@functools.cache
def _note_off(url: str) -> None:
    _log.warning("no memory of conversations: the service at %s keeps none (CONVERSATION_MEMORY)", url)
