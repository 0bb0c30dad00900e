"""Tracing by OpenTelemetry."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    use_span,
)

from app.clock import Clock
from app.lifecycle import Dispatch
from app.livekit.interface import LiveKit
from app.state.changes import Change, Outcome
from app.state.trace_context import Trace, trace_of
from app.tracing.agent_spans import AgentSpans
from app.tracing.attributes import DISPATCH, ERROR, REQUEST_ID, RESULT, Attributes
from app.tracing.livekit_calls import traced_livekit
from app.tracing.propagation import context_of, span_context_of, trace_of_span

_SERVER_ERROR = 500


class OpenTelemetryTracing:
    """`Tracing` into one provider; it sets no global one, and reads no other context than its own."""

    def __init__(self, provider: TracerProvider, clock: Clock, hide: Callable[[str], str]) -> None:
        """`hide`: how spans show a room's name."""
        self._tracer = provider.get_tracer("agent-lifecycle")
        self._clock = clock
        self._attributes = Attributes(hide)
        self._agents = AgentSpans(self._tracer, self._attributes)

    @contextmanager
    def call(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator["_Call"]:
        span = self._tracer.start_span(
            f"{method} {route}",
            context_of(headers),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route},
        )
        # Whatever ends it without an answer is a cancellation, and no error of ours.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield _Call(span, self._attributes)

    def traced(self, livekit: LiveKit) -> LiveKit:
        return traced_livekit(livekit, self._tracer, self._attributes)

    def follow(self, _change: Change, outcome: Outcome) -> None:
        self._agents.emit(outcome, self._clock.now())


class _Call:
    def __init__(self, span: Span, attributes: Attributes) -> None:
        self._span = span
        self._attributes = attributes

    @property
    def trace(self) -> Trace:
        return trace_of_span(self._span)

    @property
    def trace_id(self) -> str:
        return format_trace_id(self._span.get_span_context().trace_id)

    def note_request(self, room_name: str, agent_name: str) -> None:
        self._span.set_attributes(self._attributes.agent(room_name, agent_name))

    def note_grant(self, dispatch: Dispatch, result: str) -> None:
        self._span.set_attribute(RESULT, result)
        if dispatch.dispatch_id:
            self._span.set_attribute(DISPATCH, dispatch.dispatch_id)
        asked = span_context_of(trace_of(dispatch.briefing))
        if asked.is_valid and asked.span_id != self._span.get_span_context().span_id:
            self._span.add_link(asked)

    def note_answer(self, status: int, request_id: str | None) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if request_id:
            self._span.set_attribute(REQUEST_ID, request_id)
        if status >= _SERVER_ERROR:
            self._span.set_attribute(ERROR, str(status))
            self._span.set_status(Status(StatusCode.ERROR))
