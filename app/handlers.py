"""The endpoints: read the request, call one use case, render what came of it."""

from typing import Any

import msgspec
from aiohttp import web

from app import schemas, session_cookie, webhooks
from app.auth import Authenticator, Caller
from app.config import Config, SessionRoomsBy, Surroundings
from app.dispatches import Wanted
from app.errors import Invalid, TooLarge
from app.lifecycle import State
from app.service import Service
from app.tokens import TokenIssuer

CONFIG = web.AppKey("config", Config)
SERVICE = web.AppKey("service", Service)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
TOKEN_ISSUER = web.AppKey("token_issuer", TokenIssuer)

WEBHOOK_LIMIT = 1024 * 1024
BODY_LIMIT = 16 * 1024

_OPEN_STATES = tuple(state for state in State if state is not State.ENDED)


async def take_webhook(request: web.Request) -> web.Response:
    with request.app[SERVICE].metrics.webhook() as receipt:
        body = await _read(request, WEBHOOK_LIMIT)
        webhooks.verify(body, request.headers.get("Authorization"), request.app[CONFIG].keys)
        webhook = webhooks.translate(body)
        receipt.sent_at = webhook.sent_at
        if webhook.name in webhooks.KNOWN_EVENTS:
            receipt.event = webhook.name
        if webhook.event is None:
            receipt.result = "ignored"
        else:
            outcome = await request.app[SERVICE].tracker.submit_one(webhook.event)
            receipt.result = "applied" if outcome.applied else "stale"
    return _json({"success": True})


async def request_agent(request: web.Request) -> web.Response:
    caller = _identify(request)
    fields = schemas.parse_body(await _read(request, BODY_LIMIT), schemas.DispatchRequest)
    caller.require_room(fields.room_name)
    wanted = Wanted(
        room_name=fields.room_name,
        agent_name=_agent_name(request, fields.agent_name),
        timezone=schemas.check_timezone(fields.timezone),
        timezone_offset_min=fields.timezone_offset,
    )
    granted = await request.app[SERVICE].dispatches.request(wanted)
    return _json(schemas.dispatch_response(granted))


async def end_agent(request: web.Request) -> web.Response:
    caller = _identify(request)
    query = schemas.parse_query(list(request.query.items()), schemas.EndQuery)
    caller.require_room(query.room_name)
    dispatches = request.app[SERVICE].dispatches
    act = dispatches.give_back if query.only_if_empty else dispatches.end
    ended = await act(query.room_name, _agent_name(request, query.agent_name))
    return _json(schemas.end_response(ended, only_if_empty=query.only_if_empty))


async def show_status(request: web.Request) -> web.Response:
    caller = _identify(request)
    query = schemas.parse_query(list(request.query.items()), schemas.RoomQuery)
    caller.require_room(query.room_name)
    agent_name = _agent_name(request, query.agent_name)
    return _json(
        schemas.status_response(await request.app[SERVICE].dispatches.status(query.room_name, agent_name))
    )


async def issue_token(request: web.Request) -> web.Response:
    if request.app[CONFIG].surroundings is not Surroundings.DEV:
        _identify(request).require_operator()
    body = await _read(request, BODY_LIMIT)
    fields = schemas.parse_body(body or b"{}", schemas.TokenRequest)
    fields, cookie = await _with_session_room(request, fields)
    admission = request.app[TOKEN_ISSUER].admit(fields)
    for agent_name in admission.agent_names:
        wanted = Wanted(room_name=admission.room_name, agent_name=agent_name)
        await request.app[SERVICE].dispatches.request(wanted)
    answer = schemas.TokenResponse(
        server_url=request.app[CONFIG].livekit_url, participant_token=admission.token
    )
    response = _json(answer, status=201)
    if cookie:
        session_cookie.attach(response, request, cookie)
    return response


async def _with_session_room(
    request: web.Request, fields: schemas.TokenRequest
) -> tuple[schemas.TokenRequest, str | None]:
    """The request with the names that it leaves out, and the cookie that the browser is to keep them in."""
    config = request.app[CONFIG]
    by_cookie = config.session_rooms is SessionRoomsBy.COOKIE
    if not by_cookie or not session_cookie.is_welcome(request, config.cors_origins):
        return fields, None
    visit = await request.app[SERVICE].session_rooms.visit(
        session_cookie.read(request), fields.room_name, fields.participant_identity
    )
    named = msgspec.structs.replace(fields, room_name=visit.room_name, participant_identity=visit.identity)
    return named, visit.cookie


async def list_agents(request: web.Request) -> web.Response:
    _identify(request).require_operator()
    query = schemas.parse_query(list(request.query.items()), schemas.ListQuery)
    after = _cursor(query.cursor) if query.cursor else None
    found = await request.app[SERVICE].dispatches.list_by_state(_states(query.state), after, query.limit + 1)
    page = found[: query.limit]
    more = len(found) > query.limit
    return _json(
        schemas.AgentList(
            agents=[schemas.agent_item(dispatch) for dispatch in page],
            next_cursor=f"{page[-1].created_at}.{page[-1].id}" if more else None,
        )
    )


async def show_agent(request: web.Request) -> web.Response:
    _identify(request).require_operator()
    schemas.parse_query(list(request.query.items()), schemas.NoQuery)
    dispatch, lines = await request.app[SERVICE].dispatches.history(request.match_info["dispatch_id"])
    answer = schemas.AgentHistory(
        agent=schemas.agent_item(dispatch), history=[schemas.history_item(line) for line in lines]
    )
    return _json(answer)


async def show_health(_request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def show_readiness(request: web.Request) -> web.Response:
    report = await request.app[SERVICE].readiness.report()
    return _json(report, status=200 if report.ready else 503)


async def show_metrics(request: web.Request) -> web.Response:
    if not request.app[CONFIG].metrics_public:
        _identify(request).require_operator()
    accept = ",".join(request.headers.getall("Accept", []))
    body, content_type = request.app[SERVICE].metrics.render(accept)
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _read(request: web.Request, limit: int) -> bytes:
    """Raises: TooLarge: the body has more than `limit` bytes, or says so."""
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body is over {limit} bytes")
    body = await request.read()
    if len(body) > limit:
        raise TooLarge(f"the body is over {limit} bytes")
    return body


def _identify(request: web.Request) -> Caller:
    return request.app[AUTHENTICATOR].identify(request.headers.get("Authorization"))


def _agent_name(request: web.Request, asked: str | None) -> str:
    names = request.app[CONFIG].agent_names
    if asked is None:
        return names[0]
    if asked not in names:
        raise Invalid("this service has no agent of that name - at `$.agentName`")
    return asked


def _states(text: str | None) -> tuple[State, ...]:
    if text is None:
        return _OPEN_STATES
    try:
        return tuple(State(part) for part in text.split(","))
    except ValueError as error:
        known = ", ".join(State)
        raise Invalid(f"state takes one or more of {known}, comma separated - at `$.state`") from error


def _cursor(text: str) -> tuple[int, str]:
    created_at, _, row_id = text.partition(".")
    if not (created_at.isascii() and created_at.isdigit() and len(created_at) < 19 and row_id.isalnum()):  # noqa: PLR2004 - 63 bits
        raise Invalid("this is not a cursor that the list has given - at `$.cursor`")
    return int(created_at), row_id


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
