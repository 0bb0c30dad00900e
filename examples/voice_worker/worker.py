"""A worker with a voice: speech to text, a language model and text to speech, through LiveKit Inference.

Its agents survive refreshes, crashes and redeploys, and can wait warm for their callers.
"""

import json
import os

import reusable_agent
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    TurnHandlingOptions,
    cli,
    function_tool,
    inference,
)

AGENT_NAME = os.environ.get("AGENT_NAME", "voice-agent")

server = AgentServer()
# Reports the worker to the service at AGENT_LIFECYCLE_URL: what is free, what is left when it drains.
reusable_agent.attach(server, max_jobs=10)


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(
            instructions=(
                "You are the voice of a small shop. Answer in one or two short sentences, without lists or "
                "emojis: they are read aloud."
            )
        )

    @function_tool
    async def opening_hours(self, _: RunContext[None], day: str) -> str:
        """When the shop is open.

        Args:
            day: a day of the week.
        """
        return "closed" if day.lower() == "sunday" else "9 to 17"


def person_in(metadata: str) -> object:
    """The person's name; None where another backend, or a dispatch rule, has sent something else."""
    try:
        known = json.loads(metadata)
    except ValueError:
        return None
    return known.get("person") if isinstance(known, dict) else None


@server.rtc_session(agent_name=AGENT_NAME)
async def answer(ctx: JobContext) -> None:
    assistant = Assistant()
    session: AgentSession[None] = AgentSession(
        stt=inference.STT(model="deepgram/nova-3", language="multi"),
        llm=inference.LLM(model="openai/gpt-4.1-mini"),
        tts=inference.TTS(model="cartesia/sonic-3"),
        vad=inference.VAD(),
        turn_handling=TurnHandlingOptions(turn_detection=inference.TurnDetector()),
    )
    is_new = True

    async def get_to_know(assigned: reusable_agent.Assignment) -> None:
        """What the caller's backend has sent as metadata; a warm agent hears it only now."""
        if person := person_in(assigned.metadata):
            await assistant.update_instructions(f"{assistant.instructions} You talk with {person}.")

    def remember(_: reusable_agent.Resumed) -> None:
        """Another agent began this conversation, and what was said is in the chat context."""
        nonlocal is_new
        is_new = False

    async def say_goodbye(warning: reusable_agent.SessionWarning) -> None:
        await session.generate_reply(
            instructions=f"Say that the call ends in {warning.ends_in_s:.0f} seconds, and say goodbye."
        )

    await reusable_agent.start(
        session,
        agent=assistant,
        room=ctx.room,
        on_assigned=get_to_know,
        on_warning=say_goodbye,
        on_resume=remember,
        memory=reusable_agent.service_memory(),
    )
    await session.generate_reply(
        instructions="Greet the caller."
        if is_new
        else "Say that you are back, and go on where you both were."
    )


if __name__ == "__main__":
    cli.run_app(server)
