"""Calls of a job's context that mean the session's room, for a session that is not in the job's own room."""

from types import MethodType
from typing import Any

from livekit import rtc
from livekit.agents import JobContext

#: They read the context's room themselves. livekit-agents' own tools use them, such as EndCallTool.
_CALLS = ("add_sip_participant", "delete_room", "transfer_sip_participant", "wait_for_participant")


class _View:
    """A job's context, but with another room."""

    def __init__(self, ctx: JobContext, room: rtc.Room) -> None:
        self._ctx = ctx
        self._room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


def redirect(ctx: JobContext, room: rtc.Room) -> None:
    """Let these calls mean `room` from now on; `ctx.room` stays the job's own."""
    view = _View(ctx, room)
    for name in _CALLS:
        setattr(ctx, name, MethodType(getattr(JobContext, name), view))
