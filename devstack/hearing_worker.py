"""A worker for tests whose agents hear: it answers what people say aloud, in the chat.

It is a voice agent as far as that needs no cloud: LiveKit's turn detection, fed by a speech recognition of
tones.
"""

import reusable_agent
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, TurnHandlingOptions, cli, room_io

from devstack.counting_llm import CountingLLM
from devstack.tone_stt import ToneSTT
from devstack.worker_connection import connect
from devstack.worker_options import agent_name, server_options

server = AgentServer(**server_options())
reusable_agent.attach(server)


@server.rtc_session(agent_name=agent_name())
async def answer(ctx: JobContext) -> None:
    await connect(ctx)
    session: AgentSession[None] = AgentSession(
        stt=ToneSTT(),
        # The usual one is for voices, which tones are not.
        vad=None,
        llm=CountingLLM(),
        turn_handling=TurnHandlingOptions(turn_detection="stt"),
    )
    await reusable_agent.start(
        session,
        agent=Agent(instructions="Repeat what is said."),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_output=False),
        memory=reusable_agent.service_memory(),
    )


if __name__ == "__main__":
    cli.run_app(server)
