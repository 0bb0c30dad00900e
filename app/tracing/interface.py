"""The interface to tracing: what the rest of the service knows of it, without OpenTelemetry."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from app.lifecycle import Dispatch
from app.livekit.interface import LiveKit
from app.state.changes import Change, Outcome
from app.state.trace_context import Trace


class TracedCall(Protocol):
    """The span of a call under way; what the service does meanwhile in its context is part of it."""

    @property
    def trace(self) -> Trace:
        """For whatever goes on with the call elsewhere, or later."""

    @property
    def trace_id(self) -> str: ...

    def note_request(self, room_name: str, agent_name: str) -> None:
        """The call is about this agent."""

    def note_grant(self, dispatch: Dispatch, result: str) -> None:
        """The call got this agent; one that another call had asked for is linked to the trace of that."""

    def note_answer(self, status: int, request_id: str | None) -> None: ...


class Tracing(Protocol):
    """Makes spans of calls, of what LiveKit is asked, and of agents on their way."""

    def call(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[TracedCall]:
        """The span of a call, which goes on with the trace in its headers.

        `route` is the path's template: the path itself is the caller's.
        """

    def traced(self, livekit: LiveKit) -> LiveKit:
        """The same LiveKit, with a span for each call that is part of a trace."""

    def follow(self, change: Change, outcome: Outcome) -> None:
        """For `ChangeProcessor.subscribe`: the spans of agents of which a commit tells."""
