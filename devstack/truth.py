"""Ground truth from LiveKit: reads one room, and waits for a condition."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from livekit import api

_POLL_S = 0.05


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 20) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: it did not hold in time; `what` names the condition.
    """
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(_POLL_S)


class RoomTruth:
    def __init__(self, client: api.LiveKitAPI, name: str) -> None:
        self._client = client
        self.name = name

    async def room(self) -> api.Room | None:
        listed = await self._client.room.list_rooms(api.ListRoomsRequest(names=[self.name]))
        return next(iter(listed.rooms), None)

    async def agents(self) -> list[str]:
        """The identities of the agents in the room."""
        return [p.identity for p in await self._participants() if p.kind == api.ParticipantInfo.Kind.AGENT]

    async def people(self) -> list[str]:
        """The identities of everybody else."""
        return [p.identity for p in await self._participants() if p.kind != api.ParticipantInfo.Kind.AGENT]

    async def dispatches(self) -> list[str]:
        """The ids of the dispatches that name an agent."""
        if await self.room() is None:
            return []
        return [d.id for d in await self._client.agent_dispatch.list_dispatch(self.name) if d.agent_name]

    async def everybody(self) -> list[str]:
        """The identities of all participants, whatever they are."""
        return [participant.identity for participant in await self._participants()]

    async def has_one_agent(self) -> bool:
        return len(await self.agents()) == 1 and len(await self.dispatches()) == 1

    async def has_none(self) -> bool:
        return not await self.agents() and not await self.dispatches()

    async def _participants(self) -> list[api.ParticipantInfo]:
        listed = await self._client.room.list_participants(api.ListParticipantsRequest(room=self.name))
        # LiveKit may list one that has left; its state says so.
        return [one for one in listed.participants if one.state != api.ParticipantInfo.State.DISCONNECTED]

    async def delete(self) -> None:
        if await self.room():
            await self._client.room.delete_room(api.DeleteRoomRequest(room=self.name))
