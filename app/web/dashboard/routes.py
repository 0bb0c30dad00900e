"""The dashboard's HTTP routes: the page, sign-in and sign-out, the stream, timelines, ending an agent."""

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from app.clock import Clock
from app.config.settings import Config
from app.dashboard import messages
from app.dashboard.subscriber import Subscriber
from app.lifecycle import SECOND_US
from app.web.bodies import json_response, parse_body, read_body
from app.web.dashboard import page
from app.web.dashboard.access import PATH, DashboardAccess
from app.web.keys import SERVICE

_BODY_LIMIT = 4 * 1024
#: How long a page may read nothing of the stream.
_SEND_TIMEOUT_S = 10.0


class SignIn(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    api_key: str


class SessionState(msgspec.Struct, rename="camel", kw_only=True):
    #: False: API_KEYS is not set, so nobody can sign in.
    configured: bool
    signed_in: bool


class EndAgent(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    room_name: str
    agent_name: str


class EndedAgent(msgspec.Struct, rename="camel", kw_only=True):
    message: str


def mount_dashboard(app: web.Application, config: Config, clock: Clock) -> None:
    """Add the routes, and close open streams at a stop."""
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
    app.on_shutdown.append(_close_streams)


async def _close_streams(app: web.Application) -> None:
    app[SERVICE].feed.close_streams()


class _Dashboard:
    def __init__(self, access: DashboardAccess, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def show_session(self, request: web.Request) -> web.Response:
        signed_in = self._access.session(request) is not None
        return json_response(SessionState(configured=self._access.configured, signed_in=signed_in))

    async def sign_in(self, request: web.Request) -> web.Response:
        self._access.require_own_page(request)
        fields = parse_body(await read_body(request, _BODY_LIMIT), SignIn)
        response = json_response(SessionState(configured=True, signed_in=True))
        self._access.sign_in(request, response, fields.api_key)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        self._access.require_own_page(request)
        response = json_response(SessionState(configured=self._access.configured, signed_in=False))
        self._access.sign_out(response)
        return response

    async def show_timeline(self, request: web.Request) -> web.Response:
        self._access.require_session(request)
        queries = request.app[SERVICE].queries
        return json_response(messages.timeline(*await queries.history(request.match_info["dispatch_id"])))

    async def end_agent(self, request: web.Request) -> web.Response:
        """Do the same as a DELETE of the agent with an API key."""
        self._access.require_own_page(request)
        self._access.require_session(request)
        fields = parse_body(await read_body(request, _BODY_LIMIT), EndAgent)
        ended = await request.app[SERVICE].dispatcher.end(fields.room_name, fields.agent_name)
        message = "The agent was ended" if ended else "The agent had already ended"
        return json_response(EndedAgent(message=message))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        session = self._access.require_session(request)
        left_s = (session.expires_at - self._clock.now()) / SECOND_US
        async with (
            request.app[SERVICE].feed.subscribe() as subscriber,
            sse_response(request, send_timeout=_SEND_TIMEOUT_S) as response,
        ):
            # The session has expired, or the page has closed.
            with suppress(TimeoutError, ConnectionResetError):
                async with asyncio.timeout(left_s):
                    await _forward(subscriber, response)
        if subscriber.lags and request.transport:
            # The page reads nothing: unsent data would keep the connection open for ever.
            request.transport.abort()
        return response


async def _forward(subscriber: Subscriber, response: EventSourceResponse) -> None:
    """Forward events until the subscriber is closed or the page stops reading."""
    while event := await subscriber.next():
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await response.write(event)
        except TimeoutError:
            subscriber.give_up()
