"""What the agent publishes about itself: its dispatch, and whether its session answers."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession

from reusable_agent.warnings import Warnings

HEALTH_METHOD = "agent-lifecycle.health"
DISPATCH_ATTRIBUTE = "agent-lifecycle.dispatch"
#: Of a warm agent: `waiting` in its holding room, then `claimed` there and in the room of people.
WARM_ATTRIBUTE = "agent-lifecycle.warm"
#: `on`: another agent would go on with the conversation.
MEMORY_ATTRIBUTE = "agent-lifecycle.memory"

_log = logging.getLogger(__name__)


class Presence:
    """Answers the health probe, and takes warnings, as long as the agent is in the room."""

    def __init__(
        self, session: AgentSession[Any], room: rtc.Room, dispatch_id: str, warnings: Warnings
    ) -> None:
        self._session = session
        self._room = room
        self._dispatch_id = dispatch_id
        self._ready = False
        self._warnings = warnings
        self._closed = False
        self._introduced = False
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._room.on("connection_state_changed", self._on_connection)
        self._on_connection(rtc.ConnectionState.CONN_DISCONNECTED)

    def ready(self) -> None:
        """Answer that the session has started from now on."""
        self._ready = True

    def remember(self) -> None:
        """Publish that this conversation would outlive the agent."""
        self._spawn(publish(self._room, {MEMORY_ATTRIBUTE: "on"}))

    def close(self) -> None:
        """Answer `closed` from now on."""
        self._closed = True

    def answer(self, _: rtc.RpcInvocationData) -> str:
        """Answer the health probe."""
        # A session that is closing accepts no more input, although its close event has not fired yet.
        leaving = self._closed or self._session._is_closing()  # noqa: SLF001 - there is no public API for it
        ready = self._ready and not leaving
        return json.dumps({"session": "closed" if leaving else "open", "ready": ready})

    def _on_connection(self, _: rtc.ConnectionState.ValueType) -> None:
        if self._introduced or not self._room.isconnected():
            return
        self._introduced = True
        self._room.local_participant.register_rpc_method(HEALTH_METHOD, self.answer)
        self._warnings.open(self._room)
        self._spawn(introduce(self._room, self._dispatch_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def introduce(room: rtc.Room, dispatch_id: str) -> None:
    """Publish which dispatch the agent belongs to, unless its token has done so."""
    if room.local_participant.attributes.get(DISPATCH_ATTRIBUTE) == dispatch_id:
        return
    await publish(room, {DISPATCH_ATTRIBUTE: dispatch_id})


async def publish(room: rtc.Room, attributes: dict[str, str]) -> None:
    try:
        await room.local_participant.set_attributes(attributes)
    except Exception:  # noqa: BLE001 - an agent without it still answers
        _log.warning("could not set the attributes %s", ", ".join(attributes), exc_info=True)
