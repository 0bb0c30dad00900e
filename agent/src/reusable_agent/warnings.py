"""Warnings: the service tells the agent that it is about to be ended, so that it can say goodbye."""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from livekit import rtc

WARNING_METHOD = "agent-lifecycle.warning"
_NOT_ALLOWED = 403

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SessionWarning:
    """The service ends the agent soon.

    Attributes:
        reason: why, as the service's `endReason` will have it: `max_session`.
        ends_in_s: how much time is left.
    """

    reason: str
    ends_in_s: float


OnWarning = Callable[[SessionWarning], Awaitable[object] | None]


class Warnings:
    """Calls the agent's callback once for each end that the service warns of."""

    def __init__(self, on_warning: OnWarning | None) -> None:
        self._on_warning = on_warning
        self._room: rtc.Room | None = None
        self._known: set[str] = set()
        self._started = asyncio.Event()
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, room: rtc.Room) -> None:
        """Accept warnings from now on; early ones are kept until `ready`."""
        self._room = room
        room.local_participant.register_rpc_method(WARNING_METHOD, self._take)

    def ready(self) -> None:
        """Begin to call back: the session has started, so that it can speak."""
        self._started.set()

    def close(self) -> None:
        self._closed = True
        self._started.set()

    def _take(self, data: rtc.RpcInvocationData) -> str:
        # Anybody in the room can call the method. A call by the service comes from LiveKit itself.
        if self._room and data.caller_identity in self._room.remote_participants:
            raise rtc.RpcError(_NOT_ALLOWED, "only the agent lifecycle service warns")
        told = json.loads(data.payload)
        warning = SessionWarning(reason=str(told["reason"]), ends_in_s=float(told["endsInS"]))
        # The service repeats a warning whose answer was lost.
        end = f"{warning.reason} {told.get('endsAtMs')}"
        if end not in self._known:
            self._known.add(end)
            task = asyncio.get_running_loop().create_task(self._tell(warning))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return "{}"

    async def _tell(self, warning: SessionWarning) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + warning.ends_in_s
        await self._started.wait()
        if self._closed or self._on_warning is None:
            return
        left_s = max(0.0, ends_at - loop.time())
        try:
            result = self._on_warning(SessionWarning(reason=warning.reason, ends_in_s=left_s))
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 - a caller's callback may raise; the agent goes on until its end
            _log.exception("the callback for a warning failed")
