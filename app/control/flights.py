"""Flights: calls for the same room and agent name share one run."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from app.control.requests import AgentGrant, AgentRequest
from app.errors import AtCapacity
from app.state.capacity import Cap
from app.tasks import drain


class Flights:
    def __init__(self, run: Callable[[AgentRequest], Coroutine[Any, Any, AgentGrant]]) -> None:
        self._run = run
        self._flights: dict[tuple[str, str, bool, bool], asyncio.Task[AgentGrant]] = {}

    async def join(self, request: AgentRequest) -> AgentGrant:
        """Join the run that is under way, if it does the same to TTL and hold, or begin one."""
        key = (request.room_name, request.agent_name, request.extends_ttl, request.resumes)
        flight = self._flights.get(key)
        if flight:
            try:
                grant = (await asyncio.shield(flight)).for_another_call()
            except AtCapacity as error:
                if error.cap != Cap.PER_IDENTITY:
                    raise
                # That of the caller who began it.
                return await self.join(request)
            if request.takes(grant.dispatch.briefing):
                return grant
            return await self.join(request)
        flight = asyncio.create_task(self._run(request), name="dispatch request")
        self._flights[key] = flight
        flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # If the caller goes away, those that joined the flight still need its outcome.
        return await asyncio.shield(flight)

    async def close(self, grace_s: float) -> None:
        await drain(self._flights.values(), grace_s)
