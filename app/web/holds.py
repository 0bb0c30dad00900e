"""Handlers of holds: a human takes over from a room's agent, and hands back."""

from aiohttp import web

from app.control.requests import AgentRequest
from app.errors import Forbidden, NotFound
from app.lifecycle import Dispatch
from app.web import presenters, schemas
from app.web.auth import CALLER
from app.web.keys import CONFIG, SERVICE
from app.web.tracing import note_grant, note_request


async def hold_agent(request: web.Request, _query: schemas.NoQuery) -> schemas.DispatchResponse:
    named = await _named_dispatch(request)
    note_request(request, named.room_name, named.agent_name)
    grant = await request.app[SERVICE].holds.hold(named.room_name, named.agent_name)
    note_grant(request, grant)
    return presenters.dispatch_response(grant, [])


async def resume_agent(request: web.Request, _query: schemas.NoQuery) -> schemas.DispatchResponse:
    named = await _named_dispatch(request)
    agent_request = AgentRequest(
        room_name=named.room_name,
        agent_name=named.agent_name,
        extends_ttl=extends_ttl(request),
        trace=note_request(request, named.room_name, named.agent_name),
    )
    grant = await request.app[SERVICE].holds.resume(agent_request)
    note_grant(request, grant)
    return presenters.dispatch_response(grant, [])


def require_hold_right(request: web.Request, agent_name: str) -> None:
    """Raises: Forbidden: the caller is a participant, and the policy does not let it hold or resume."""
    if not _may_hold(request, agent_name):
        raise Forbidden("To hold or resume an agent requires an API key (members_may_hold)")


async def keeps_hold(request: web.Request, room_name: str, agent_name: str) -> bool:
    """Whether there is a hold that the caller may not end: not by DELETE either."""
    is_on_hold = request.app[SERVICE].holds.is_on_hold
    return not _may_hold(request, agent_name) and await is_on_hold(room_name, agent_name)


def _may_hold(request: web.Request, agent_name: str) -> bool:
    policy = request.app[SERVICE].policies.agents.get(agent_name)
    return request[CALLER].is_operator or (policy is not None and policy.members_may_hold)


def extends_ttl(request: web.Request) -> bool:
    """Whether the call restarts the TTL of an agent with nobody in."""
    return request[CALLER].is_operator or request.app[CONFIG].member_extends_ttl


async def _named_dispatch(request: web.Request) -> Dispatch:
    """The dispatch in the path, which may have ended: its room and agent name count.

    Raises:
        NotFound: there is none.
        Forbidden: the caller may not hold its agent.
    """
    named = await request.app[SERVICE].queries.dispatch(request.match_info["dispatch_id"])
    # A participant is not told whether a dispatch of another room exists.
    request[CALLER].require_room(named.room_name if named else "")
    if named is None:
        raise NotFound("Dispatch not found")
    require_hold_right(request, named.agent_name)
    return named
