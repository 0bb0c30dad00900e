"""The trace of the call for which the agent was dispatched, and how the agent's own spans go on with it."""

from livekit.agents import JobContext

from reusable_agent.assignment import Assignment

try:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # a livekit-agents without it makes no spans
    TraceContextTextMapPropagator = None  # type: ignore[assignment,misc]

#: Attributes of a dispatch by the agent lifecycle service, if it traces; the values are W3C's.
TRACEPARENT_ATTRIBUTE = "agent-lifecycle.traceparent"
TRACESTATE_ATTRIBUTE = "agent-lifecycle.tracestate"
_HEADERS = {"traceparent": TRACEPARENT_ATTRIBUTE, "tracestate": TRACESTATE_ATTRIBUTE}


def trace_headers(told: JobContext | Assignment) -> dict[str, str]:
    """`traceparent` and `tracestate`, for requests of your own or for a propagator; empty without a trace.

    A job's context has those of an ordinary job; of a warm agent only its assignment has them.
    """
    attributes = told.attributes if isinstance(told, Assignment) else told.job.attributes
    return {name: attributes[key] for name, key in _HEADERS.items() if attributes.get(key)}


def continue_trace(assignment: Assignment) -> None:
    """Let the spans of this job's entrypoint go on with the trace of the call, from here on.

    livekit-agents has begun the job's own trace by now (1.8.9, `job_entrypoint`): that one gets a link.
    """
    headers = trace_headers(assignment)
    if not headers or TraceContextTextMapPropagator is None:
        return
    of_call = TraceContextTextMapPropagator().extract(headers)
    called = trace.get_current_span(of_call).get_span_context()
    if called.is_valid and called.is_remote:
        trace.get_current_span().add_link(called)
        # For good: the context is this job's, and livekit-agents puts its session's span into it next.
        context.attach(of_call)
