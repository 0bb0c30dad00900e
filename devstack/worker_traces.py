"""Traces of a worker: livekit-agents makes spans, and exports them to where it is told."""

import os

from livekit.agents import telemetry
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def export_traces() -> None:
    """Call it where the worker's module is imported: each process of jobs imports it too."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Without what was said, and without names of rooms and people.
    telemetry.set_tracer_provider(provider, allow_pii=False)
