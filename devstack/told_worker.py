"""A worker for tests that does what its metadata tells it: what ordinary agents do and the examples do not.

Its sessions are plain ones. The metadata is a JSON object, or any text, which tells it nothing:
- `waits_s`: how long it loads before it connects
- `fails_after_s`: how long after the start of its session its entrypoint raises
- `has_face`: an avatar joins for it
"""

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobRequest,
    cli,
    get_job_context,
    llm,
    room_io,
)
from livekit.agents.worker import ServerType

from devstack.counting_llm import CountingLLM
from devstack.people import avatar_token
from devstack.worker_connection import connect
from devstack.worker_options import agent_name, server_options
from devstack.workers import IDENTITY, TYPE, WAITS_S

server = AgentServer(**server_options())


@dataclass(frozen=True)
class Orders:
    waits_s: float = 0
    fails_after_s: float | None = None
    has_face: bool = False


def _orders(metadata: str) -> Orders:
    with contextlib.suppress(ValueError):
        told = json.loads(metadata)
        if isinstance(told, dict):
            return Orders(**{name: value for name, value in told.items() if name in Orders.__annotations__})
    return Orders()


async def accept(request: JobRequest) -> None:
    await request.accept(identity=os.environ.get(IDENTITY, ""))


async def obey(session: AgentSession[None], event: room_io.TextInputEvent) -> None:
    job = get_job_context()
    match event.text:
        case "/told":
            text = json.dumps([job.job.metadata, dict(job.job.attributes), job.job.deployment])
            session.generate_reply(user_input=llm.ChatMessage(role="user", content=["/told " + text]))
        case "/goodbye":
            job.shutdown()
        case text:
            session.generate_reply(user_input=llm.ChatMessage(role="user", content=[text]))


async def show_face(ctx: JobContext) -> None:
    """Let an avatar join, as livekit-agents' plugins have their services do."""
    token = avatar_token(
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        ctx.room.name,
        ctx.room.local_participant.identity,
    )
    face = rtc.Room()
    await face.connect(os.environ["LIVEKIT_URL"], token)
    ctx.add_shutdown_callback(face.disconnect)


@server.rtc_session(
    agent_name=agent_name(),
    type=ServerType.PUBLISHER if os.environ.get(TYPE) == "publisher" else ServerType.ROOM,
    on_request=accept,
)
async def answer(ctx: JobContext) -> None:
    orders = _orders(ctx.job.metadata)
    await asyncio.sleep(orders.waits_s or float(os.environ.get(WAITS_S, "0")))
    await connect(ctx)
    session: AgentSession[Any] = AgentSession(llm=CountingLLM())
    await session.start(
        agent=Agent(instructions="Repeat what is said."),
        room=ctx.room,
        room_options=room_io.RoomOptions(
            audio_input=False, audio_output=False, text_input=room_io.TextInputOptions(text_input_cb=obey)
        ),
    )
    if orders.has_face:
        await show_face(ctx)
    if orders.fails_after_s is not None:
        await asyncio.sleep(orders.fails_after_s)
        raise RuntimeError("told to fail")


if __name__ == "__main__":
    cli.run_app(server)
