"""The example worker: one AgentSession for a room, kept open for whoever comes back.

Run it as any LiveKit worker: `python -m devstack.example_worker start`. It differs from `plain_worker` in how
the session is started, and in nothing else. To give it a real model see docs/agents.md.
"""

import reusable_agent
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io

from devstack.counting_llm import CountingLLM
from devstack.worker_options import agent_name, server_options

server = AgentServer(**server_options())


@server.rtc_session(agent_name=agent_name())
async def answer(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(llm=CountingLLM())
    await reusable_agent.start(
        session,
        agent=Agent(instructions="Repeat what is said."),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_input=False, audio_output=False),
    )


if __name__ == "__main__":
    cli.run_app(server)
