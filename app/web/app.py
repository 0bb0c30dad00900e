"""The aiohttp application: its routes, its middlewares, and what starts and stops with it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from app.clock import Clock, SteadyClock
from app.config.settings import Config, SessionRoomsBy
from app.database import migrations
from app.database.engine import create_engine
from app.database.file_lock import sole_use
from app.database.store import Store
from app.livekit.client import LiveKitClient
from app.livekit.interface import LiveKit
from app.logs.counts import LogCounts
from app.metrics.registry import LoopLag
from app.service import Service, build_service
from app.tracing.interface import Tracing
from app.web.admission import Admission, add_quota_headers
from app.web.auth import Authenticator
from app.web.browser_sessions import SessionRooms
from app.web.calls import CallLimiter
from app.web.cookies import SecureConnections
from app.web.cors import Cors
from app.web.dashboard.routes import mount_dashboard
from app.web.demo import demo_routes
from app.web.docs import docs_routes
from app.web.envelope import Envelope
from app.web.keys import (
    CALLS,
    CONFIG,
    SECURE_CONNECTIONS,
    SERVICE,
    SESSION_ROOMS,
    TOKEN_ISSUER,
)
from app.web.refusals import Refusals
from app.web.routes import api_endpoints
from app.web.security_headers import headers_for
from app.web.tokens import TokenIssuer
from app.web.tracing import tracing_middleware
from app.web.webhook import WEBHOOK_INTAKE, WEBHOOK_LIMIT, WebhookIntake


def create_app(
    config: Config,
    *,
    clock: Clock | None = None,
    livekit: LiveKit | None = None,
    store_type: type[Store] = Store,
    log_counts: LogCounts | None = None,
    tracing: Tracing | None = None,
) -> web.Application:
    """The application for one configuration; `livekit` None: a client for the configured LiveKit.

    `tracing` None: nothing is traced.
    """
    clock = clock or SteadyClock()
    refusals = Refusals(clock, config.trusted_proxies)
    envelope = Envelope(clock, lambda: app[SERVICE].metrics, headers_for(config.public_url), refusals)
    cors = Cors(config.cors_origins, cookies=config.session_rooms is SessionRoomsBy.COOKIE)
    endpoints = api_endpoints(config)
    outermost = [tracing_middleware(tracing, endpoints)] if tracing else []
    app = web.Application(
        middlewares=[*outermost, envelope.middleware, cors.middleware],
        # The limit of the largest body; handlers have their own, smaller ones.
        client_max_size=WEBHOOK_LIMIT,
    )
    app.on_response_prepare.extend([cors.add_headers, add_quota_headers, envelope.add_headers])
    app[CONFIG] = config
    app[SECURE_CONNECTIONS] = SecureConnections(config.public_url, config.trusted_proxies)
    app[WEBHOOK_INTAKE] = WebhookIntake(envelope, clock, config.keys, lambda: app[SERVICE])
    app[TOKEN_ISSUER] = TokenIssuer(
        config.livekit_key,
        config.agent_names,
        room_timeout_s=lambda: app[SERVICE].policies.room_timeout_s,
        allows_egress=config.token_egress,
        allows_lk_attributes=config.token_lk_attributes,
    )
    app.on_shutdown.append(_answer_waiting_calls)
    app.cleanup_ctx.append(_lifespan(config, clock, livekit, store_type, log_counts or LogCounts(), tracing))
    calls = app[CALLS] = CallLimiter()
    admission = Admission(
        Authenticator(config.keys, config.api_keys, member_token_max_days=config.member_token_max_days),
        clock,
        calls,
        limit_per_minute=config.rate_limit_per_minute,
        trusted_proxies=config.trusted_proxies,
    )
    app.add_routes([admission.route(endpoint) for endpoint in endpoints])
    app.add_routes(docs_routes(endpoints))
    mount_dashboard(app, config, clock, calls)
    if config.demo_page:
        app.add_routes(demo_routes(config.browser_livekit_url))
    return app


async def _answer_waiting_calls(app: web.Application) -> None:
    """Before the stop waits for the requests under way."""
    app[SERVICE].call_queue.stop()
    app[SERVICE].ready_calls.stop()


def _lifespan(
    config: Config,
    clock: Clock,
    livekit: LiveKit | None,
    store_type: type[Store],
    log_counts: LogCounts,
    tracing: Tracing | None,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Start database, LiveKit client and service before the first request; stop them in reverse order."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with (
            _opened_store(config, store_type) as store,
            _livekit_client(config, clock, livekit) as client,
        ):
            asked = tracing.traced(client) if tracing else client
            service = build_service(config, store, asked, clock, log_counts)
            if tracing:
                service.processor.subscribe(tracing.follow)
            app[SERVICE] = service
            app[SESSION_ROOMS] = SessionRooms(service.livekit, clock, config.livekit_secrets)
            await service.start()
            try:
                async with _monitored(service):
                    yield
            finally:
                await service.stop()

    return context


@asynccontextmanager
async def _opened_store(config: Config, store_type: type[Store]) -> AsyncIterator[Store]:
    """The store of the migrated database; a SQLite file is this process's alone until it is closed."""
    engine = create_engine(config.database_url)
    async with sole_use(engine):
        store = store_type(engine)
        try:
            await migrations.upgrade(engine)
            store.file.start()
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def _monitored(service: Service) -> AsyncIterator[None]:
    """Measure the event loop's lag and raise alerts while the service runs."""
    monitors = (
        LoopLag(service.metrics.loop_lag_seconds.observe),
        service.alert_notifier,
        service.alert_monitor,
    )
    for monitor in monitors:
        monitor.start()
    try:
        yield
    finally:
        for monitor in reversed(monitors):
            await monitor.close()


@asynccontextmanager
async def _livekit_client(config: Config, clock: Clock, livekit: LiveKit | None) -> AsyncIterator[LiveKit]:
    if livekit:
        yield livekit
        return
    # Bounded, so that many deadlines at once do not open as many connections.
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield LiveKitClient(session, config.livekit_url, config.livekit_key, clock)
