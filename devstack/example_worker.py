"""The example worker: one AgentSession per room, which stays open for people who come back.

Run it like any LiveKit worker: `python -m devstack.example_worker start`. It differs from `plain_worker` only
in how it starts the session. docs/agents.md shows how to use a real model.
"""

import asyncio
import os

import reusable_agent
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io

from devstack.counting_llm import CountingLLM
from devstack.worker_connection import connect
from devstack.worker_options import agent_name, max_jobs, server_options
from devstack.worker_traces import export_traces
from devstack.workers import LOADS_S

server = AgentServer(**server_options())
reusable_agent.attach(server, max_jobs=max_jobs())
export_traces()


@server.rtc_session(agent_name=agent_name())
async def answer(ctx: JobContext) -> None:
    # In place of models that take long to load.
    await asyncio.sleep(float(os.environ.get(LOADS_S, "0")))
    await connect(ctx)
    session: AgentSession[None] = AgentSession(llm=CountingLLM())

    async def say_goodbye(warning: reusable_agent.SessionWarning) -> None:
        await session.say(f"I have to go in {warning.ends_in_s:.0f} seconds. Goodbye!")

    await reusable_agent.start(
        session,
        agent=Agent(instructions="Repeat what is said."),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_input=False, audio_output=False),
        on_warning=say_goodbye,
        memory=reusable_agent.service_memory(),
    )


if __name__ == "__main__":
    cli.run_app(server)
