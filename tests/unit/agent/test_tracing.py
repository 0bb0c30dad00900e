"""The trace of the call, as the agent reads it and its spans go on with it."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from livekit import rtc
from livekit.agents import JobContext
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from reusable_agent import TRACEPARENT_ATTRIBUTE, TRACESTATE_ATTRIBUTE, Assignment, trace_headers, tracing
from reusable_agent.tracing import continue_trace

from fakes.spans import ids, links_of, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOLD = {TRACEPARENT_ATTRIBUTE: f"00-{TRACE}-{SPAN}-01", TRACESTATE_ATTRIBUTE: "vendor=1", "tier": "gold"}


async def assigned(attributes: dict[str, str]) -> Assignment:
    return Assignment(room=rtc.Room(), metadata="", attributes=attributes, is_warm=False)


async def test_the_headers_are_those_of_the_call_and_nothing_else() -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
    job = cast("JobContext", SimpleNamespace(job=SimpleNamespace(attributes=TOLD)))

    assert trace_headers(job) == headers
    assert trace_headers(await assigned(TOLD)) == headers
    assert trace_headers(await assigned({"tier": "gold"})) == {}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


async def spans_of_a_job(
    tracer: trace.Tracer, exporter: InMemorySpanExporter, attributes: dict[str, str]
) -> tuple[ReadableSpan, ReadableSpan]:
    """That of the job, as livekit-agents makes it, and that of its session."""

    async def job() -> None:
        with tracer.start_as_current_span("job"):
            continue_trace(await assigned(attributes))
            tracer.start_span("session").end()

    # In a task of its own, as every job.
    await asyncio.create_task(job())
    session, job_span = exporter.get_finished_spans()
    return job_span, session


async def test_the_session_goes_on_with_the_trace_and_the_job_is_linked_to_it(
    tracer: trace.Tracer, exporter: InMemorySpanExporter
) -> None:
    job, session = await spans_of_a_job(tracer, exporter, TOLD)

    assert (ids(session)[0], parent_of(session)) == (TRACE, SPAN)
    assert ids(job)[0] != TRACE
    assert links_of(job) == [(TRACE, SPAN)]
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("attributes", [{}, {"tier": "gold"}, {TRACEPARENT_ATTRIBUTE: "nonsense"}])
async def test_without_a_trace_the_session_stays_in_that_of_its_job(
    tracer: trace.Tracer, exporter: InMemorySpanExporter, attributes: dict[str, str]
) -> None:
    job, session = await spans_of_a_job(tracer, exporter, attributes)

    assert (ids(session)[0], parent_of(session)) == ids(job)
    assert links_of(job) == []


async def test_without_opentelemetry_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "TraceContextTextMapPropagator", None)
    continue_trace(await assigned(TOLD))
    assert not trace.get_current_span().get_span_context().is_valid
