"""The route table: every endpoint there is, but for pages and what only pages call."""

from app.config.settings import Config, Environment
from app.control.readiness import Report
from app.errors import Busy, LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, NotFound
from app.livekit.webhooks import WebhookBody
from app.web import handlers, schemas
from app.web.endpoints import Access, AnyEndpoint, Endpoint
from app.web.keys import WEBHOOK_PATH

_LIVEKIT_ERRORS = (LiveKitRefused, LiveKitUnavailable, LiveKitTimeout, Busy)


def api_endpoints(config: Config) -> tuple[AnyEndpoint, ...]:
    """The endpoints; who may call two of them is the configuration's to say."""
    is_dev = config.environment is Environment.DEV
    return (
        Endpoint(
            method="POST",
            path=WEBHOOK_PATH,
            access=Access.LIVEKIT,
            summary="Take one of LiveKit's webhooks; answered only once it is committed",
            handler=handlers.take_webhook,
            body=WebhookBody,
            answer=schemas.Taken,
            errors=(Busy,),
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/dispatch-agent",
            access=Access.MEMBER,
            summary="Have one agent that answers in a room: the one that is there, or a new one",
            handler=handlers.request_agent,
            body=schemas.DispatchRequest,
            query=schemas.NoQuery,
            answer=schemas.DispatchResponse,
            errors=_LIVEKIT_ERRORS,
        ),
        Endpoint(
            method="DELETE",
            path="/api/livekit/dispatch-agent",
            access=Access.MEMBER,
            summary="End a room's agent now; a success also when there is none",
            handler=handlers.end_agent,
            query=schemas.EndQuery,
            answer=schemas.EndResponse,
            errors=_LIVEKIT_ERRORS,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agent-status",
            access=Access.MEMBER,
            summary="Whether a room has an agent, and how it is",
            handler=handlers.show_status,
            query=schemas.RoomQuery,
            answer=schemas.StatusResponse,
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/token",
            access=Access.ANYBODY if is_dev else Access.OPERATOR,
            summary="LiveKit's standard token endpoint; agents asked for go through the lifecycle",
            handler=handlers.issue_token,
            body=schemas.TokenRequest,
            body_if_none=b"{}",
            answer=schemas.TokenResponse,
            statuses=(201,),
            errors=_LIVEKIT_ERRORS,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agents",
            access=Access.OPERATOR,
            summary="List agents, the newest first; live ones unless `state` asks for others",
            handler=handlers.list_agents,
            query=schemas.ListQuery,
            answer=schemas.AgentList,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/agents/{dispatch_id}",
            access=Access.OPERATOR,
            summary="One dispatch and what happened to it, by which event",
            handler=handlers.show_agent,
            query=schemas.NoQuery,
            answer=schemas.AgentHistory,
            errors=(NotFound,),
        ),
        *_operational_endpoints(Access.PROBE if config.metrics_public else Access.OPERATOR),
    )


def _operational_endpoints(metrics_access: Access) -> tuple[AnyEndpoint, ...]:
    return (
        Endpoint(
            method="GET",
            path="/healthz",
            access=Access.PROBE,
            summary="Whether the process runs",
            handler=handlers.show_health,
            answer=schemas.Health,
        ),
        Endpoint(
            method="GET",
            path="/readyz",
            access=Access.PROBE,
            summary="Whether it may be sent traffic, and why not",
            handler=handlers.show_readiness,
            answer=Report,
            statuses=(200, 503),
        ),
        Endpoint(
            method="GET",
            path="/metrics",
            access=metrics_access,
            summary="For Prometheus",
            handler=handlers.show_metrics,
            answer=None,
        ),
    )
