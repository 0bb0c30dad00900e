"""The dashboard over HTTP: the page, signing in and out, the live stream, time lines, and ending an agent."""

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from app.clock import Clock
from app.config.settings import Config
from app.dashboard import messages
from app.dashboard.subscriber import Subscriber
from app.web.bodies import json_response, parse_body, read_body
from app.web.dashboard import page
from app.web.dashboard.access import PATH, DashboardAccess
from app.web.keys import SERVICE

_BODY_LIMIT = 4 * 1024
#: How long a page may take nothing of what is sent to it.
_SEND_TIMEOUT_S = 10.0
_SECOND_US = 1_000_000


class SignIn(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    api_key: str


class SessionState(msgspec.Struct, rename="camel", kw_only=True):
    #: False: API_KEYS is not set, so that nobody can sign in.
    configured: bool
    signed_in: bool


class EndAgent(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    room_name: str
    agent_name: str


class EndedAgent(msgspec.Struct, rename="camel", kw_only=True):
    message: str


def mount_dashboard(app: web.Application, config: Config, clock: Clock) -> None:
    """Add the page and what it calls, and see that open streams do not hold up a stop."""
    dashboard = _Dashboard(DashboardAccess(config, clock), clock)
    app.add_routes(
        [
            web.get(PATH, page.show_page),
            web.get(f"{PATH}/", page.show_page),
            web.get(f"{PATH}/static/{{name}}", page.send_file),
            web.get(f"{PATH}/session", dashboard.show_session),
            web.post(f"{PATH}/session", dashboard.sign_in),
            web.delete(f"{PATH}/session", dashboard.sign_out),
            web.get(f"{PATH}/stream", dashboard.stream, allow_head=False),
            web.get(f"{PATH}/agents/{{dispatch_id}}", dashboard.show_timeline),
            web.post(f"{PATH}/agents/end", dashboard.end_agent),
        ]
    )
    app.on_shutdown.append(_dismiss_pages)


async def _dismiss_pages(app: web.Application) -> None:
    app[SERVICE].feed.dismiss()


class _Dashboard:
    def __init__(self, gate: DashboardAccess, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock

    async def show_session(self, request: web.Request) -> web.Response:
        signed_in = self._gate.session(request) is not None
        return json_response(SessionState(configured=self._gate.configured, signed_in=signed_in))

    async def sign_in(self, request: web.Request) -> web.Response:
        self._gate.require_own_page(request)
        fields = parse_body(await read_body(request, _BODY_LIMIT), SignIn)
        response = json_response(SessionState(configured=True, signed_in=True))
        self._gate.let_in(request, response, fields.api_key)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        self._gate.require_own_page(request)
        response = json_response(SessionState(configured=self._gate.configured, signed_in=False))
        self._gate.let_out(response)
        return response

    async def show_timeline(self, request: web.Request) -> web.Response:
        self._gate.require_session(request)
        queries = request.app[SERVICE].queries
        return json_response(messages.timeline(*await queries.history(request.match_info["dispatch_id"])))

    async def end_agent(self, request: web.Request) -> web.Response:
        """The same as a DELETE of the agent by an API key."""
        self._gate.require_own_page(request)
        self._gate.require_session(request)
        fields = parse_body(await read_body(request, _BODY_LIMIT), EndAgent)
        ended = await request.app[SERVICE].dispatcher.end(fields.room_name, fields.agent_name)
        message = "The agent was ended" if ended else "There was no agent any more"
        return json_response(EndedAgent(message=message))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        session = self._gate.require_session(request)
        left_s = (session.expires_at - self._clock.now()) / _SECOND_US
        async with (
            request.app[SERVICE].feed.watch() as subscriber,
            sse_response(request, send_timeout=_SEND_TIMEOUT_S) as response,
        ):
            # The session has run out, or the page has gone.
            with suppress(TimeoutError, ConnectionResetError):
                async with asyncio.timeout(left_s):
                    await _forward(subscriber, response)
        if subscriber.lags and request.transport:
            # It takes nothing: whatever is left for it to read would hold the connection for ever.
            request.transport.abort()
        return response


async def _forward(subscriber: Subscriber, response: EventSourceResponse) -> None:
    """Pass events on until the watcher is closed or the page takes nothing more."""
    while event := await subscriber.next():
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await response.write(event)
        except TimeoutError:
            subscriber.give_up()
