"""Assignments: the room that an agent works in, and what it is told about the job there."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from livekit import rtc
from livekit.agents import JobContext


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What the agent is to do, and where.

    Attributes:
        room: the session's room. In an ordinary job it is connected only if the entrypoint has done so.
        metadata: what the caller has given for this agent, as `ctx.job.metadata` of an ordinary job.
        attributes: the attributes of the dispatch, as `ctx.job.attributes` of an ordinary job.
        is_warm: whether the agent has waited for this assignment; its job then belongs to another room.
    """

    room: rtc.Room
    metadata: str
    attributes: Mapping[str, str]
    is_warm: bool


OnAssigned = Callable[[Assignment], Awaitable[object] | None]


def ordinary_assignment(ctx: JobContext, room: rtc.Room) -> Assignment:
    """The assignment of a job that was dispatched to the person's room itself."""
    return Assignment(
        room=room, metadata=ctx.job.metadata, attributes=dict(ctx.job.attributes), is_warm=False
    )


async def tell(on_assigned: OnAssigned | None, assignment: Assignment) -> None:
    """Call the agent's callback, and await it if it is async; what it raises fails the start."""
    if on_assigned is None:
        return
    result = on_assigned(assignment)
    if inspect.isawaitable(result):
        await result
