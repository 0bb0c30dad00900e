"""Handlers: each takes checked input, calls one use case, and returns the answer."""

from contextlib import nullcontext
from functools import partial

import msgspec
from aiohttp import web

from app.config.agents import MemberEnd
from app.config.settings import SessionRoomsBy
from app.control.requests import AgentRequest, Patience
from app.errors import AtCapacity, Forbidden, Invalid
from app.lifecycle import Briefing
from app.web import checks, presenters, schemas
from app.web.auth import CALLER
from app.web.bodies import is_connected, json_response
from app.web.browser_sessions import COOKIE_NAME, attach_cookie, may_have_cookie
from app.web.cookies import read_cookie
from app.web.holds import extends_ttl, keeps_hold, require_hold_right
from app.web.identities import check_identity, check_name
from app.web.keys import CALLS, CONFIG, SECURE_CONNECTIONS, SERVICE, SESSION_ROOMS, TOKEN_ISSUER
from app.web.tokens import IssuedToken
from app.web.tracing import note_grant, note_request
from app.web.webhook import receive_webhook


async def take_webhook(request: web.Request, _unread: object) -> schemas.Taken:
    await receive_webhook(request, request.app[SERVICE], request.app[CONFIG].keys)
    return schemas.Taken()


async def request_agent(request: web.Request, fields: schemas.DispatchRequest) -> schemas.DispatchResponse:
    caller = request[CALLER]
    caller.require_room(fields.room_name)
    warnings: list[str] = []
    service, is_wanted = request.app[SERVICE], partial(is_connected, request)
    room_name = checks.check_room_name(fields.room_name, request.app[CONFIG].room_name_pattern)
    agent_name = _agent_name(request, fields.agent_name)
    agent_request = AgentRequest(
        room_name=room_name,
        agent_name=agent_name,
        timezone=checks.check_timezone(fields.timezone, warnings),
        timezone_offset_min=checks.check_timezone_offset(fields.timezone_offset, warnings),
        briefing=_briefing(request, fields, warnings),
        replaces_if_told_otherwise=fields.replace_if_metadata_differs,
        extends_ttl=extends_ttl(request),
        resumes=fields.resume,
        requested_by=None if caller.is_operator else service.pseudonym(caller.identity),
        patience=Patience(wait_s=fields.wait_s, is_wanted=is_wanted) if fields.wait_s else None,
        trace=note_request(request, room_name, agent_name),
    )
    if fields.resume:
        require_hold_right(request, agent_request.agent_name)
    with request.app[CALLS].waiting(request) if fields.wait or fields.wait_s else nullcontext():
        if fields.wait:
            grant = await service.ready_calls.request(agent_request, is_wanted)
        else:
            grant = await service.dispatcher.request(agent_request)
    note_grant(request, grant)
    return presenters.dispatch_response(grant, warnings)


async def end_agent(request: web.Request, query: schemas.EndQuery) -> schemas.EndResponse:
    caller = request[CALLER]
    caller.require_room(checks.check_room_name(query.room_name))
    agent_name = _agent_name(request, query.agent_name)
    policy = request.app[SERVICE].policies.of(agent_name)
    may_end = MemberEnd.ALWAYS if caller.is_operator else policy.members_may_end
    if may_end is MemberEnd.NEVER:
        raise Forbidden(
            "Ending this agent requires an API key, since members may not"
            " (MEMBER_END, or members_may_end in AGENTS_FILE)"
        )
    only_if_empty = query.only_if_empty or may_end is MemberEnd.IF_EMPTY
    if not only_if_empty and await keeps_hold(request, query.room_name, agent_name):
        raise Forbidden("The agent is on hold; to end a hold requires an API key (members_may_hold)")
    dispatcher = request.app[SERVICE].dispatcher
    end = dispatcher.end_if_empty if only_if_empty else dispatcher.end
    note_request(request, query.room_name, agent_name)
    ended = await end(query.room_name, agent_name)
    return presenters.end_response(ended, only_if_empty=only_if_empty, may_end=may_end)


async def show_status(request: web.Request, query: schemas.RoomQuery) -> schemas.StatusResponse:
    request[CALLER].require_room(checks.check_room_name(query.room_name))
    agent_name = _agent_name(request, query.agent_name)
    service = request.app[SERVICE]
    dispatch = await service.queries.status(query.room_name, agent_name)
    return presenters.status_response(dispatch, service.clock.now())


async def issue_token(request: web.Request, fields: schemas.TokenRequest) -> web.Response:
    config = request.app[CONFIG]
    if fields.room_name is not None:
        checks.check_room_name(fields.room_name, config.room_name_pattern)
    named = fields.participant_identity
    check_identity(named or "")
    check_name(fields.participant_name or "")
    fields, cookie = await _with_session_room(request, fields)
    if named and fields.room_name and named in await request.app[SERVICE].queries.agents(fields.room_name):
        raise Invalid("The identity is that of an agent of the room - at `$.participant_identity`")
    issued = request.app[TOKEN_ISSUER].issue(fields)
    ignored = request.app[SERVICE].counters.ignored_fields
    ignored["body"] += schemas.has_unknown_fields(await request.read(), schemas.TokenRequest)
    ignored["room_config"] += issued.ignored_fields
    await _request_agents(request, issued)
    answer = schemas.TokenResponse(server_url=config.browser_livekit_url, participant_token=issued.token)
    response = json_response(answer, status=201)
    if cookie:
        attach_cookie(response, request, cookie, secure=request.app[SECURE_CONNECTIONS].includes(request))
    return response


async def _request_agents(request: web.Request, issued: IssuedToken) -> None:
    """Raises: AtCapacity: there is no place for one of them; those before it were given up again."""
    service, made = request.app[SERVICE], list[str]()
    for agent_name, briefing in issued.agents.items():
        agent_request = AgentRequest(
            room_name=issued.room_name,
            agent_name=agent_name,
            briefing=briefing,
            requested_by=service.pseudonym(issued.identity),
            trace=note_request(request, issued.room_name, agent_name),
        )
        try:
            grant = await service.dispatcher.request(agent_request)
        except AtCapacity:
            for name in made:
                await service.dispatcher.end_if_empty(issued.room_name, name)
            raise
        note_grant(request, grant)
        if not grant.reused:
            made.append(agent_name)


async def _with_session_room(
    request: web.Request, fields: schemas.TokenRequest
) -> tuple[schemas.TokenRequest, str | None]:
    """The request with the names that it leaves out, and the cookie that stores them in the browser."""
    config = request.app[CONFIG]
    by_cookie = config.session_rooms is SessionRoomsBy.COOKIE
    if not by_cookie or not may_have_cookie(request, config.cors_origins):
        return fields, None
    known = read_cookie(request, COOKIE_NAME, secure=request.app[SECURE_CONNECTIONS].includes(request))
    visit = await request.app[SESSION_ROOMS].visit(known, fields.room_name, fields.participant_identity)
    named = msgspec.structs.replace(fields, room_name=visit.room_name, participant_identity=visit.identity)
    return named, visit.cookie


async def list_agents(request: web.Request, query: schemas.ListQuery) -> schemas.AgentList:
    found = await request.app[SERVICE].queries.find(
        schemas.states(query),
        schemas.after(query),
        # One more than the page shows whether there is a next one.
        query.limit + 1,
        room_name=query.room_name,
        agent_name=query.agent_name,
    )
    page = found[: query.limit]
    more = len(found) > query.limit
    now = request.app[SERVICE].clock.now()
    return schemas.AgentList(
        agents=[presenters.agent_item(dispatch, now) for dispatch in page],
        next_cursor=schemas.cursor(page[-1]) if more else None,
    )


async def show_agent(request: web.Request, _query: schemas.NoQuery) -> schemas.AgentHistory:
    dispatch, lines = await request.app[SERVICE].queries.history(request.match_info["dispatch_id"])
    return schemas.AgentHistory(
        agent=presenters.agent_item(dispatch, request.app[SERVICE].clock.now()),
        metadata=dispatch.briefing.metadata,
        deployment=dispatch.briefing.deployment,
        history=[presenters.history_item(line) for line in lines],
    )


async def show_health(_request: web.Request, _input: None) -> schemas.Health:
    return schemas.Health()


async def show_readiness(request: web.Request, _input: None) -> web.Response:
    report = await request.app[SERVICE].readiness.report()
    return json_response(report, status=200 if report.ready else 503)


async def show_metrics(request: web.Request, _input: None) -> web.Response:
    accept = ",".join(request.headers.getall("Accept", []))
    body, content_type = request.app[SERVICE].metrics.render(accept)
    return web.Response(body=body, headers={"Content-Type": content_type})


def _agent_name(request: web.Request, requested: str | None) -> str:
    names = request.app[CONFIG].agent_names
    if requested is None:
        return names[0]
    if requested not in names:
        raise Invalid("The agent name is not one of AGENT_NAME - at `$.agentName`")
    return requested


def _briefing(request: web.Request, fields: schemas.DispatchRequest, warnings: list[str]) -> Briefing | None:
    """What the caller wants the agent to be told; None if it does not say.

    Raises: Forbidden: a browser must not choose what a backend trusts.
    """
    metadata = checks.check_metadata(fields.metadata)
    if metadata is None:
        if fields.replace_if_metadata_differs:
            warnings.append("replaceIfMetadataDiffers has no effect without metadata")
        return None
    if not request[CALLER].is_operator and not request.app[CONFIG].member_metadata:
        raise Forbidden("metadata requires an API key; with MEMBER_METADATA=true a participant may send it")
    return Briefing(metadata=metadata)
