"""What the agent publishes about itself: its dispatch, and whether its session answers."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, JobContext

from reusable_agent.warnings import Warnings

HEALTH_METHOD = "agent-lifecycle.health"
DISPATCH_ATTRIBUTE = "agent-lifecycle.dispatch"
#: `on`: another agent would go on with the conversation.
MEMORY_ATTRIBUTE = "agent-lifecycle.memory"

_log = logging.getLogger(__name__)


class Presence:
    """Answers the health probe, and takes warnings, as long as the agent is in the room."""

    def __init__(self, session: AgentSession[Any], ctx: JobContext, warnings: Warnings) -> None:
        self._session = session
        self._ctx = ctx
        self._ready = False
        self._warnings = warnings
        self._closed = False
        self._introduced = False
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._ctx.room.on("connection_state_changed", self._on_connection)
        self._on_connection(rtc.ConnectionState.CONN_DISCONNECTED)

    def ready(self) -> None:
        """Answer that the session has started from now on."""
        self._ready = True

    def remember(self) -> None:
        """Publish that this conversation would outlive the agent."""
        self._spawn(self._publish({MEMORY_ATTRIBUTE: "on"}))

    def close(self) -> None:
        """Answer `closed` from now on."""
        self._closed = True

    def _on_connection(self, _: rtc.ConnectionState.ValueType) -> None:
        if self._introduced or not self._ctx.room.isconnected():
            return
        self._introduced = True
        self._ctx.room.local_participant.register_rpc_method(HEALTH_METHOD, self._health)
        self._warnings.open(self._ctx.room)
        self._spawn(self._publish({DISPATCH_ATTRIBUTE: self._ctx.job.dispatch_id}))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _health(self, _: rtc.RpcInvocationData) -> str:
        # A session that is closing accepts no more input, although its close event has not fired yet.
        leaving = self._closed or self._session._is_closing()  # noqa: SLF001 - there is no public API for it
        ready = self._ready and not leaving
        return json.dumps({"session": "closed" if leaving else "open", "ready": ready})

    async def _publish(self, attributes: dict[str, str]) -> None:
        try:
            await self._ctx.room.local_participant.set_attributes(attributes)
        except Exception:  # noqa: BLE001 - an agent without it still answers
            _log.warning("could not set the attributes %s", ", ".join(attributes), exc_info=True)
