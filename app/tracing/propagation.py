"""W3C trace context: how a trace comes from a caller, and goes on in a dispatch."""

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.state.trace_context import Trace

_PROPAGATOR = TraceContextTextMapPropagator()


def context_of(carrier: Mapping[str, str]) -> Context:
    """The context that headers or the attributes of a dispatch carry; empty if they carry none."""
    return _PROPAGATOR.extract(carrier, Context())


def span_context_of(carrier: Mapping[str, str]) -> SpanContext:
    """The same as what a link names; invalid if there is none."""
    return get_current_span(context_of(carrier)).get_span_context()


def trace_of_span(span: Span) -> Trace:
    """What goes on with this span as its parent."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier
