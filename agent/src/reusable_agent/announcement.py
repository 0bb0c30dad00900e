"""Participants that LiveKit has not announced yet: one that publishes nothing is announced up to 3 s late."""

import asyncio

from livekit import rtc
from livekit.agents import utils

_TIMEOUT_S = 6.0


async def announced(room: rtc.Room, identity: str) -> rtc.RemoteParticipant:
    """The participant of that identity, once LiveKit has announced it.

    Raises:
        TimeoutError: it is not in the room.
        RuntimeError: the room is disconnected.
    """
    known = room.remote_participants.get(identity)
    if known is not None:
        return known
    async with asyncio.timeout(_TIMEOUT_S):
        return await utils.wait_for_participant(room, identity=identity)
