"""A typed client for the agent lifecycle service for LiveKit, sync and async."""

from agent_lifecycle_client import errors, models
from agent_lifecycle_client.client import AsyncClient, Client
from agent_lifecycle_client.errors import AgentLifecycleError, ServiceError, ServiceUnreachable

__all__ = [
    "AgentLifecycleError",
    "AsyncClient",
    "Client",
    "ServiceError",
    "ServiceUnreachable",
    "errors",
    "models",
]
