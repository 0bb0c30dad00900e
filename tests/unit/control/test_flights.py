"""Calls that share one run, and whose refusal they share."""

import asyncio

import pytest

from app.control.flights import Flights
from app.control.requests import AgentGrant, AgentRequest
from app.errors import AtCapacity
from app.state.capacity import Cap

ALICE = AgentRequest(room_name="room", agent_name="agent", requested_by="alice")
BOB = AgentRequest(room_name="room", agent_name="agent", requested_by="bob")


@pytest.mark.parametrize(("cap", "runs"), [(Cap.AGENTS, 1), (Cap.PER_IDENTITY, 2)])
async def test_who_joins_a_flight_is_not_refused_for_the_own_limit_of_its_first_caller(
    cap: Cap, runs: int
) -> None:
    ran: list[str | None] = []

    async def refuse(request: AgentRequest) -> AgentGrant:
        ran.append(request.requested_by)
        await asyncio.sleep(0)
        raise AtCapacity("no place", cap=cap)

    flights = Flights(refuse)
    results = await asyncio.gather(flights.join(ALICE), flights.join(BOB), return_exceptions=True)

    assert ran == ["alice", "bob"][:runs]
    assert [type(result) for result in results] == [AtCapacity, AtCapacity]
