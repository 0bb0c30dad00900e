"""The aiohttp application: its routes, its middlewares, and what is up while it is up."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from app import handlers, migrate
from app.auth import Authenticator
from app.clock import Clock, SteadyClock
from app.config import Config, SessionRoomsBy, Surroundings
from app.cors import cors_middleware
from app.dashboard.routes import mount_dashboard
from app.demo import demo_routes
from app.engine import create_engine
from app.errors import error_middleware
from app.handlers import AUTHENTICATOR, CONFIG, SERVICE, TOKEN_ISSUER, WEBHOOK_LIMIT
from app.livekit import LiveKit
from app.livekit_client import LiveKitClient
from app.log_counts import LogCounts
from app.service import build_service
from app.store import Store
from app.tokens import TokenIssuer


def create_app(
    config: Config,
    *,
    clock: Clock | None = None,
    livekit: LiveKit | None = None,
    store_type: type[Store] = Store,
    log_counts: LogCounts | None = None,
) -> web.Application:
    """The service for one configuration; `livekit` None: the one that the configuration names."""
    clock = clock or SteadyClock()
    by_cookie = config.session_rooms is SessionRoomsBy.COOKIE
    # The limit of the largest body; handlers have their own, smaller ones.
    app = web.Application(
        middlewares=[cors_middleware(config.cors_origins, cookies=by_cookie), error_middleware],
        client_max_size=WEBHOOK_LIMIT,
    )
    app[CONFIG] = config
    app[AUTHENTICATOR] = Authenticator(config.keys, config.api_keys)
    app[TOKEN_ISSUER] = TokenIssuer(
        config.livekit_key, config.agent_names, room_timeout_s=config.room_timeout_s
    )
    app.cleanup_ctx.append(_running(config, clock, livekit, store_type, log_counts or LogCounts()))
    app.add_routes(
        [
            web.post("/api/livekit/webhook", handlers.take_webhook),
            web.post("/api/livekit/dispatch-agent", handlers.request_agent),
            web.delete("/api/livekit/dispatch-agent", handlers.end_agent),
            web.get("/api/livekit/agent-status", handlers.show_status),
            web.post("/api/livekit/token", handlers.issue_token),
            web.get("/api/livekit/agents", handlers.list_agents),
            web.get("/api/livekit/agents/{dispatch_id}", handlers.show_agent),
            web.get("/healthz", handlers.show_health),
            web.get("/readyz", handlers.show_readiness),
            web.get("/metrics", handlers.show_metrics),
        ]
    )
    mount_dashboard(app, config, clock)
    if config.surroundings is Surroundings.DEV:
        app.add_routes(demo_routes(config.livekit_url))
    return app


def _running(
    config: Config, clock: Clock, livekit: LiveKit | None, store_type: type[Store], log_counts: LogCounts
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Database, LiveKit, service: up in this order before the first request, down in the reverse."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        engine = create_engine(config.database_url)
        store = store_type(engine)
        try:
            await migrate.upgrade(engine)
            async with _connected(config, livekit) as client:
                service = build_service(config, store, client, clock, log_counts)
                app[SERVICE] = service
                await service.start()
                try:
                    yield
                finally:
                    await service.stop()
        finally:
            await store.close()

    return context


@asynccontextmanager
async def _connected(config: Config, livekit: LiveKit | None) -> AsyncIterator[LiveKit]:
    if livekit:
        yield livekit
        return
    # Bounded, so that a storm of deadlines does not become a storm of connections.
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield LiveKitClient(session, config.livekit_url, config.livekit_key)
