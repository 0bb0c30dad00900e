"""What the fixtures of the end-to-end tests give, for the tests' annotations."""

from collections.abc import Awaitable
from typing import Protocol

from livekit import api

from devstack.callers import Caller
from devstack.people import Person
from devstack.service import Service
from devstack.workers import Worker, WorkerKind


class JoinRoom(Protocol):
    """Lets somebody join a room; they leave at the test's end."""

    def __call__(
        self, room: str, identity: str = "alice", *, microphone: bool = True
    ) -> Awaitable[Person]: ...


class StartService(Protocol):
    """Starts a service of the test's own; `env` adds to its environment."""

    def __call__(
        self, *, agent_name: str = "reusable-agent", ready: bool = True, **env: str
    ) -> Awaitable[Service]: ...


class StartWorker(Protocol):
    """Starts a worker of the test's own, to kill, freeze or drain."""

    def __call__(
        self, agent_name: str, *, kind: WorkerKind = WorkerKind.REUSABLE, drain_timeout_s: int = 3600
    ) -> Awaitable[Worker]: ...


class Call(Protocol):
    """Opens a caller of a service, with an API key; it is closed at the test's end."""

    def __call__(self, service: Service) -> Awaitable[Caller]: ...


class Dispatch(Protocol):
    """Puts an agent into a room as LiveKit itself does it, without our service."""

    def __call__(self, room: str, agent_name: str) -> Awaitable[api.AgentDispatch]: ...
