"""Types of the end-to-end fixtures, for annotations in tests."""

from collections.abc import Awaitable, Mapping
from typing import Protocol

from livekit import api

from devstack.callers import Caller
from devstack.people import Person
from devstack.service import Service
from devstack.workers import Worker, WorkerKind


class JoinRoom(Protocol):
    """Lets a person join a room; the person leaves at the end of the test."""

    def __call__(
        self, room: str, identity: str = "alice", *, microphone: bool = True
    ) -> Awaitable[Person]: ...


class StartService(Protocol):
    """Starts a service for one test; `env` adds to its environment."""

    def __call__(
        self, *, agent_name: str = "reusable-agent", ready: bool = True, **env: str
    ) -> Awaitable[Service]: ...


class StartWorker(Protocol):
    """Starts a worker for one test, to kill, freeze or drain; `env` adds to its environment."""

    def __call__(
        self,
        agent_name: str,
        *,
        kind: WorkerKind = WorkerKind.REUSABLE,
        drain_timeout_s: int = 3600,
        env: Mapping[str, str] | None = None,
    ) -> Awaitable[Worker]: ...


class Call(Protocol):
    """Opens a caller with an API key; it is closed at the end of the test."""

    def __call__(self, service: Service) -> Awaitable[Caller]: ...


class Dispatch(Protocol):
    """Dispatches an agent through LiveKit, without this service."""

    def __call__(self, room: str, agent_name: str, *, metadata: str = "") -> Awaitable[api.AgentDispatch]: ...
