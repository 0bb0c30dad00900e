"""The connection of an example worker's job to its room."""

import asyncio
import contextlib

from livekit.agents import JobContext


async def connect(ctx: JobContext) -> None:
    """Connect, and if the job is cancelled meanwhile, end only once that has succeeded or failed.

    Else livekit-rtc 1.1.21 ends its process ("timed out waiting for ReadyForRoomEventRequest"): it connects,
    and waits 15 s for an answer from an event loop that is closed. Jobs that are threads share that process.
    """
    connecting = asyncio.create_task(ctx.connect())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await connecting
        raise
