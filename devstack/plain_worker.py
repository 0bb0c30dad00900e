"""The plain worker, as most people write it: its session closes for good when its user leaves.

Its participant stays in the room but never answers again; the service must detect that.
"""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io

from devstack.counting_llm import CountingLLM
from devstack.worker_connection import connect
from devstack.worker_options import agent_name, server_options

server = AgentServer(**server_options())


@server.rtc_session(agent_name=agent_name())
async def answer(ctx: JobContext) -> None:
    await connect(ctx)
    session: AgentSession[None] = AgentSession(llm=CountingLLM())
    await session.start(
        agent=Agent(instructions="Repeat what is said."),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_input=False, audio_output=False),
    )


if __name__ == "__main__":
    cli.run_app(server)
