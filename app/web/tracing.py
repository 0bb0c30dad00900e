"""Spans of calls: the middleware around the envelope, and what handlers tell of a call."""

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.control.requests import AgentGrant
from app.logs.context import bind_trace
from app.state.trace_context import Trace
from app.tracing.interface import TracedCall, Tracing
from app.web.endpoints import AnyEndpoint
from app.web.request_id import REQUEST_ID

_CALL = web.RequestKey("traced_call", TracedCall)


def tracing_middleware(tracing: Tracing, endpoints: Iterable[AnyEndpoint]) -> Middleware:
    """For the outermost place, so that the log line of a call has its trace too.

    Only calls have spans: webhooks, probes and reports of workers come by the thousand, from no trace.
    """
    routes = {one.path for one in endpoints if one.access.is_call and one.path.startswith("/api/")}

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else None
        if route not in routes:
            return await handler(request)
        with tracing.call(request.method, route, request.headers) as call, bind_trace(call.trace_id):
            request[_CALL] = call
            response = await handler(request)
            call.note_answer(response.status, request.get(REQUEST_ID))
            return response

    return trace


def note_request(request: web.Request, room_name: str, agent_name: str) -> Trace:
    """Tell the span of the call which agent it is about; returns the trace for that agent, if any."""
    call: TracedCall | None = request.get(_CALL)
    if call is None:
        return {}
    call.note_request(room_name, agent_name)
    return call.trace


def note_grant(request: web.Request, grant: AgentGrant) -> None:
    if call := request.get(_CALL):
        call.note_grant(grant.dispatch, grant.result)
