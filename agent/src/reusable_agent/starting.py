"""`start`, the replacement for `session.start(...)`."""

from typing import Any, TypeVar, cast

from livekit import rtc
from livekit.agents import NOT_GIVEN, Agent, AgentSession, NotGivenOr, RunResult, get_job_context, room_io

from reusable_agent.audience import Audience
from reusable_agent.chat import Chat
from reusable_agent.farewell import Farewell, Leaving
from reusable_agent.handover import RELIEVES_ATTRIBUTE, HandOver, take_over
from reusable_agent.memory import Memory, OnResume
from reusable_agent.options import reject_deprecated, terms_of
from reusable_agent.presence import Presence
from reusable_agent.recorder import recorder_of
from reusable_agent.warnings import OnWarning, Warnings

UserdataT = TypeVar("UserdataT")


async def start(
    session: AgentSession[UserdataT],
    agent: Agent,
    *,
    room: rtc.Room,
    room_options: NotGivenOr[room_io.RoomOptions] = NOT_GIVEN,
    on_warning: OnWarning | None = None,
    memory: Memory | None = None,
    on_resume: OnResume | None = None,
    **others: Any,
) -> RunResult[Any] | None:
    """Start `session` in `room` so that it answers whoever joins, as long as the room exists.

    Takes what `AgentSession.start` takes and returns what it returns. Call it in a job's entrypoint, once.
    `on_warning` is called, and awaited if it is async, when the service is about to end the agent.
    `memory` keeps what was said for the agent that goes on if this one is lost; `on_resume` is called, and
    awaited if it is async, when this one goes on with a conversation.

    Raises:
        UnsuitableOptionsError: the options contradict an agent that outlives its user.
    """
    reject_deprecated(others)
    terms = terms_of(room_options)
    ctx = get_job_context()
    if ctx.is_fake_job():
        # The worker's console: there is no room and no participant who could leave.
        return cast(
            "RunResult[Any] | None",
            await session.start(agent, room=room, room_options=room_options, **others),
        )
    audience = Audience(session, room, terms)
    chat = Chat(session, room, terms, audience)
    warnings = Warnings(on_warning)
    presence = Presence(session, ctx, warnings)

    def close() -> None:
        presence.close()
        audience.close()
        chat.close()
        warnings.close()

    recorder = await recorder_of(memory, on_resume, ctx, room)
    farewell = Farewell(session, ctx, close, recorder)
    farewell.watch()
    presence.open()
    if terms.chat:
        chat.open()
    if RELIEVES_ATTRIBUTE in ctx.job.attributes:
        await ctx.connect()
        chat.skip(await take_over(ctx, room))
    if recorder:
        await recorder.recall(agent)
        recorder.watch(session)
    try:
        result: RunResult[Any] | None = await session.start(
            agent, room=room, room_options=terms.room_options, **others
        )
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
    return result
