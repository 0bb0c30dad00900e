"""`start`, the replacement for `session.start(...)`."""

from typing import Any, TypeVar

from livekit import rtc
from livekit.agents import (
    NOT_GIVEN,
    Agent,
    AgentSession,
    JobContext,
    NotGivenOr,
    get_job_context,
    room_io,
)

from reusable_agent.assignment import Assignment, OnAssigned, ordinary_assignment, tell
from reusable_agent.audience import Audience
from reusable_agent.chat import Chat
from reusable_agent.farewell import Farewell, Leaving
from reusable_agent.handover import HandOver, take_over
from reusable_agent.memory import Memory, OnResume
from reusable_agent.options import reject_unsuitable, terms_of
from reusable_agent.presence import Presence
from reusable_agent.recorder import recorder_of
from reusable_agent.redirection import redirect
from reusable_agent.tracing import continue_trace
from reusable_agent.waiting import Waiting, is_warm
from reusable_agent.warnings import OnWarning, Warnings

UserdataT = TypeVar("UserdataT")


async def start(
    session: AgentSession[UserdataT],
    agent: Agent,
    *,
    room: rtc.Room,
    room_options: NotGivenOr[room_io.RoomOptions] = NOT_GIVEN,
    on_assigned: OnAssigned | None = None,
    on_warning: OnWarning | None = None,
    memory: Memory | None = None,
    on_resume: OnResume | None = None,
    **others: Any,
) -> rtc.Room:
    """Start `session` so that it answers whoever joins, as long as the room exists; returns its room.

    Takes what `AgentSession.start` takes, but `capture_run`. Call it in a job's entrypoint, once. In an
    ordinary job the session's room is `room`. A warm agent waits here until it is assigned to a room, and
    enters that room beside its job's own. `memory` keeps what was said for the agent that goes on if this one
    is lost. `on_assigned` is called before the session starts, `on_resume` when this agent goes on with a
    conversation, and `on_warning` when the service is about to end it; each is awaited if it is async.

    Raises:
        UnsuitableOptionsError: the options contradict an agent that outlives its user.
        NotAssignedError: a warm agent has not been needed.
    """
    reject_unsuitable(others)
    terms = terms_of(room_options)
    ctx = get_job_context()
    if ctx.is_fake_job():
        # The worker's console: there is no room and no participant who could leave.
        await tell(on_assigned, ordinary_assignment(ctx, room))
        await session.start(agent, room=room, room_options=room_options, **others)
        return room
    if is_warm(ctx):
        room = rtc.Room()
    audience = Audience(session, room, terms)
    chat = Chat(session, room, terms, audience)
    warnings = Warnings(on_warning)
    presence = Presence(session, room, ctx.job.dispatch_id, warnings)

    def close() -> None:
        presence.close()
        audience.close()
        chat.close()
        warnings.close()

    farewell = Farewell(session, ctx, room, close)
    farewell.watch()
    if terms.chat:
        chat.open()
    try:
        assignment = await _assignment(ctx, room, presence)
        continue_trace(assignment)
        await tell(on_assigned, assignment)
        chat.skip(await take_over(ctx, room))
        recorder = await recorder_of(memory, on_resume, ctx, room)
        if recorder:
            farewell.keep(recorder)
            await recorder.recall(agent)
            recorder.watch(session)
        await session.start(agent, room=room, room_options=terms.room_options, **others)
    except Exception:
        close()
        await farewell.announce(Leaving.FAILED)
        raise
    audience.open()
    chat.ready()
    HandOver(session, room, chat, farewell, recorder).open()
    presence.ready()
    warnings.ready()
    if recorder:
        if recorder.is_open:
            presence.remember()
        await recorder.tell()
    return room


async def _assignment(ctx: JobContext, room: rtc.Room, presence: Presence) -> Assignment:
    """What the agent is to do: at once, or, for a warm one, when somebody needs it."""
    if not is_warm(ctx):
        presence.open()
        return ordinary_assignment(ctx, room)
    assignment = await Waiting(ctx, room, presence).until_assigned()
    redirect(ctx, room)
    return assignment
