"""Keys of what the application carries, and the paths that several modules know."""

from aiohttp import web

from app.config.settings import Config
from app.service import Service
from app.web.browser_sessions import SessionRooms
from app.web.calls import CallLimiter
from app.web.cookies import SecureConnections
from app.web.tokens import TokenIssuer

WEBHOOK_PATH = "/api/livekit/webhook"
READINESS_PATH = "/readyz"

CONFIG = web.AppKey("config", Config)
SERVICE = web.AppKey("service", Service)
SECURE_CONNECTIONS = web.AppKey("secure_connections", SecureConnections)
CALLS = web.AppKey("calls", CallLimiter)
SESSION_ROOMS = web.AppKey("session_rooms", SessionRooms)
TOKEN_ISSUER = web.AppKey("token_issuer", TokenIssuer)
