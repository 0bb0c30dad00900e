"""Traces into memory, and how a test looks at them."""

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

from app.clock import Clock
from app.tracing.tracer import OpenTelemetryTracing


class Spans:
    """What the tracings that it opens have made, over several services too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._exporter = InMemorySpanExporter()

    def open(self, hide: Callable[[str], str] = str) -> OpenTelemetryTracing:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        return OpenTelemetryTracing(provider, self._clock, hide)

    def all(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if name in ("", span.name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    @property
    def names(self) -> set[str]:
        return {span.name for span in self.all()}

    def forget(self) -> None:
        self._exporter.clear()


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Of its trace, and its own."""
    assert span.context
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> str | None:
    return format_span_id(span.parent.span_id) if span.parent else None


def links_of(span: ReadableSpan) -> list[tuple[str, str]]:
    return [
        (format_trace_id(link.context.trace_id), format_span_id(link.context.span_id)) for link in span.links
    ]
