"""A worker for tests: its session ends on command, in each of the ways in which sessions end.

It also reports whom it hears and what it was assigned, and has its own callback for typed text, like agents
that do not answer every text.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import reusable_agent
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    APIStatusError,
    JobContext,
    cli,
    get_job_context,
    llm,
    room_io,
)
from livekit.agents.voice.agent_session import SessionConnectOptions

from devstack.counting_llm import CountingLLM
from devstack.worker_connection import connect
from devstack.worker_options import agent_name, server_options
from devstack.workers import STARTS_WITH

#: Metadata: connect before the session starts, as most agents do.
CONNECT_FIRST = "connect first"
#: Metadata of an assignment: it raises.
DECLINED = "decline"

server = AgentServer(**server_options())


class _BreakingLLM(CountingLLM):
    def reply(self, turn: int, text: str) -> str:
        if text == "/break":
            raise APIStatusError("the model is gone", status_code=400, retryable=False)
        return super().reply(turn, text)


class _SlowSession(AgentSession[None]):
    """One whose start takes as long as the test wants."""

    async def start(self, *args: Any, **kwargs: Any) -> Any:
        if awaited := os.environ.get(STARTS_WITH):
            while not Path(awaited).exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
                await asyncio.sleep(0.02)
        return await super().start(*args, **kwargs)


async def end_as_told(session: AgentSession[None], event: room_io.TextInputEvent) -> None:
    match event.text:
        case "/close":
            await session.aclose()
        case "/shutdown":
            session.shutdown()
        case "/hang up":
            get_job_context().shutdown("the caller hung up")
        case "/delete":
            await get_job_context().delete_room()
        case "/whom":
            heard = session.room_io.linked_participant
            session.generate_reply(user_input=heard.identity if heard else "nobody")
        case text:
            session.generate_reply(user_input=llm.ChatMessage(role="user", content=[text]))


def report_of(assigned: reusable_agent.Assignment) -> str:
    return json.dumps([assigned.room.name, assigned.metadata, dict(assigned.attributes), assigned.is_warm])


@server.rtc_session(agent_name=agent_name())
async def answer(ctx: JobContext) -> None:
    reports: list[str] = []

    async def note(assigned: reusable_agent.Assignment) -> None:
        if assigned.metadata == DECLINED:
            raise RuntimeError("told to decline")
        reports.append(report_of(assigned))

    async def obey(session: AgentSession[None], event: room_io.TextInputEvent) -> None:
        if event.text == "/assigned":
            session.generate_reply(user_input=" ".join(["/assigned", *reports, room.name]))
        else:
            await end_as_told(session, event)

    if ctx.job.metadata == CONNECT_FIRST:
        await connect(ctx)
    session = _SlowSession(llm=_BreakingLLM(), conn_options=SessionConnectOptions(max_unrecoverable_errors=0))
    room = await reusable_agent.start(
        session,
        agent=Agent(instructions="Obey."),
        room=ctx.room,
        room_options=room_io.RoomOptions(
            audio_input=False, audio_output=False, text_input=room_io.TextInputOptions(text_input_cb=obey)
        ),
        on_assigned=note,
    )


if __name__ == "__main__":
    cli.run_app(server)
