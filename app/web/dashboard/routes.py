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
from app.dashboard.usage import DAYS, usage_days
from app.errors import DatabaseUnavailable
from app.lifecycle import SECOND_US
from app.state.usage import UsageBy
from app.web.bodies import json_response, parse_body, read_body
from app.web.calls import CallLimiter
from app.web.dashboard import page
from app.web.dashboard.access import BODY_LIMIT, PATH, DashboardAccess, SessionState
from app.web.dashboard.sessions import Session
from app.web.keys import SERVICE

#: How long a page may read nothing of the stream.
_SEND_TIMEOUT_S = 10.0
#: How long an open page outlives the sign-out of its session at most.
SESSION_CHECK_S = 10.0


class EndAgent(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    room_name: str
    agent_name: str


class EndedAgent(msgspec.Struct, rename="camel", kw_only=True):
    message: str


def mount_dashboard(app: web.Application, config: Config, clock: Clock, calls: CallLimiter) -> None:
    """Add the routes, and close open streams at a stop."""
    dashboard = _Dashboard(DashboardAccess(config, clock), clock, calls)
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
            web.get(f"{PATH}/usage", dashboard.show_usage),
            web.post(f"{PATH}/agents/end", dashboard.end_agent),
        ]
    )
    app.on_shutdown.append(_close_streams)


async def _close_streams(app: web.Application) -> None:
    app[SERVICE].feed.close_streams()


class _Dashboard:
    def __init__(self, access: DashboardAccess, clock: Clock, calls: CallLimiter) -> None:
        self._access = access
        self._clock = clock
        self._calls = calls

    async def show_session(self, request: web.Request) -> web.Response:
        signed_in = await self._access.session(request) is not None
        return json_response(SessionState(configured=self._access.configured, signed_in=signed_in))

    async def sign_in(self, request: web.Request) -> web.Response:
        self._access.require_own_page(request)
        return await self._access.sign_in(request)

    async def sign_out(self, request: web.Request) -> web.Response:
        self._access.require_own_page(request)
        return await self._access.sign_out(request)

    async def show_timeline(self, request: web.Request) -> web.Response:
        await self._access.require_session(request)
        queries = request.app[SERVICE].queries
        return json_response(messages.timeline(*await queries.history(request.match_info["dispatch_id"])))

    async def show_usage(self, request: web.Request) -> web.Response:
        await self._access.require_session(request)
        ledger = request.app[SERVICE].usage
        days = range(ledger.today - DAYS + 1, ledger.today + 1)
        return json_response(usage_days(await ledger.report(UsageBy.DAY, days), days))

    async def end_agent(self, request: web.Request) -> web.Response:
        """Do the same as a DELETE of the agent with an API key."""
        self._access.require_own_page(request)
        await self._access.require_session(request)
        fields = parse_body(await read_body(request, BODY_LIMIT), EndAgent)
        with self._calls.place():
            ended = await request.app[SERVICE].dispatcher.end(fields.room_name, fields.agent_name)
        message = "The agent was ended" if ended else "The agent had already ended"
        return json_response(EndedAgent(message=message))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        signed_in = await self._access.require_session(request)
        session: Session | None = signed_in
        loop = asyncio.get_running_loop()
        until_s = loop.time() + (signed_in.expires_at - self._clock.now()) / SECOND_US
        async with (
            request.app[SERVICE].feed.subscribe() as subscriber,
            sse_response(request, send_timeout=_SEND_TIMEOUT_S) as response,
        ):
            # The page has closed, or the session has ended.
            with suppress(ConnectionResetError):
                while session and loop.time() < until_s:
                    try:
                        async with asyncio.timeout_at(min(until_s, loop.time() + SESSION_CHECK_S)):
                            await _forward(subscriber, response)
                        break
                    except TimeoutError:
                        # While the database cannot be asked, the page stays: it shows the outage.
                        with suppress(DatabaseUnavailable):
                            session = await self._access.session(request)
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
