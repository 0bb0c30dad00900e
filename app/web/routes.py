"""The route table: every endpoint but pages and what only pages call."""

from app.config.settings import Config, Environment
from app.control.readiness import Report
from app.errors import (
    AgentEnded,
    AtCapacity,
    Busy,
    Conflict,
    CrashLoop,
    JoinTimeout,
    LiveKitRefused,
    LiveKitTimeout,
    LiveKitUnavailable,
    NotFound,
    NoWorker,
    OnHold,
)
from app.livekit.webhooks import WebhookBody
from app.web import handlers, holds, schemas
from app.web.endpoints import Access, AnyEndpoint, Endpoint
from app.web.events import EVENT_ENDPOINTS
from app.web.keys import READINESS_PATH, WEBHOOK_PATH
from app.web.memory import MEMORY_ENDPOINTS
from app.web.usage import CSV, UsageQuery, UsageResponse, show_usage
from app.web.worker_routes import worker_endpoints

_LIVEKIT_ERRORS = (LiveKitRefused, LiveKitUnavailable, LiveKitTimeout, Busy)
#: Of calls that wait until the agent answers.
_READY_ERRORS = (NoWorker, JoinTimeout, CrashLoop, AgentEnded, OnHold)


def api_endpoints(config: Config) -> tuple[AnyEndpoint, ...]:
    """The endpoints; the configuration decides who may call `token` and `metrics`."""
    is_dev = config.environment is Environment.DEV
    return (
        Endpoint(
            method="POST",
            path=WEBHOOK_PATH,
            access=Access.LIVEKIT,
            summary="Receive a LiveKit webhook; the answer comes after the commit",
            handler=handlers.take_webhook,
            body=WebhookBody,
            answer=schemas.Taken,
            errors=(Busy,),
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/dispatch-agent",
            access=Access.MEMBER,
            summary="Get one agent that answers into a room: reuse the existing one, or dispatch a new one",
            handler=handlers.request_agent,
            body=schemas.DispatchRequest,
            body_limit=schemas.DISPATCH_BODY_BYTES,
            query=schemas.NoQuery,
            answer=schemas.DispatchResponse,
            errors=(*_LIVEKIT_ERRORS, *_READY_ERRORS, AtCapacity),
        ),
        Endpoint(
            method="DELETE",
            path="/api/livekit/dispatch-agent",
            access=Access.MEMBER,
            summary="End a room's agent now; also succeeds when there is none",
            handler=handlers.end_agent,
            query=schemas.EndQuery,
            answer=schemas.EndResponse,
            errors=_LIVEKIT_ERRORS,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agent-status",
            access=Access.MEMBER,
            summary="Get the state of a room's agent",
            handler=handlers.show_status,
            query=schemas.RoomQuery,
            answer=schemas.StatusResponse,
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/token",
            access=Access.ANYBODY if is_dev else Access.OPERATOR,
            summary="Issue a token (LiveKit's standard token endpoint); this service dispatches its agents",
            handler=handlers.issue_token,
            body=schemas.TokenRequest,
            body_if_none=b"{}",
            answer=schemas.TokenResponse,
            statuses=(201,),
            errors=(*_LIVEKIT_ERRORS, AtCapacity),
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agents",
            access=Access.OPERATOR,
            summary="List agents, newest first; only live ones unless `state` selects others",
            handler=handlers.list_agents,
            query=schemas.ListQuery,
            answer=schemas.AgentList,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agents/{dispatch_id}",
            access=Access.OPERATOR,
            summary="Get one dispatch and its history of events",
            handler=handlers.show_agent,
            query=schemas.NoQuery,
            answer=schemas.AgentHistory,
            errors=(NotFound,),
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/agents/{dispatch_id}/hold",
            access=Access.MEMBER,
            summary="Put a room's agent on hold: it leaves, and none comes until it is resumed",
            handler=holds.hold_agent,
            query=schemas.NoQuery,
            answer=schemas.DispatchResponse,
            errors=(NotFound, Conflict),
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/agents/{dispatch_id}/resume",
            access=Access.MEMBER,
            summary="Bring the agent of a room back after a hold",
            handler=holds.resume_agent,
            query=schemas.NoQuery,
            answer=schemas.DispatchResponse,
            errors=(NotFound, Conflict, *_LIVEKIT_ERRORS),
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/usage",
            access=Access.OPERATOR,
            summary="Get what agents cost: how long they started, talked, and were alone",
            handler=show_usage,
            query=UsageQuery,
            answer=UsageResponse,
            also_as=(CSV,),
        ),
        *EVENT_ENDPOINTS,
        *MEMORY_ENDPOINTS,
        *worker_endpoints(),
        *_operational_endpoints(Access.SCRAPER if config.metrics_public else Access.OPERATOR),
    )


def _operational_endpoints(metrics_access: Access) -> tuple[AnyEndpoint, ...]:
    return (
        Endpoint(
            method="GET",
            path="/healthz",
            access=Access.PROBE,
            summary="Liveness: whether the process runs",
            handler=handlers.show_health,
            answer=schemas.Health,
        ),
        Endpoint(
            method="GET",
            path=READINESS_PATH,
            access=Access.PROBE,
            summary="Readiness: whether the service can take traffic, and if not, why",
            handler=handlers.show_readiness,
            answer=Report,
            statuses=(200, 503),
        ),
        Endpoint(
            method="GET",
            path="/metrics",
            access=metrics_access,
            summary="Metrics in Prometheus format",
            handler=handlers.show_metrics,
            answer=None,
        ),
    )
