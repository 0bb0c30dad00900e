"""The export of spans: to a collector that may be slow or away, without a word too many about it."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from app.clock import Clock
from app.config.tracing import TraceExporter
from app.lifecycle import SECOND_US

logger = logging.getLogger(__name__)

_NAME = "agent-lifecycle"
#: How long a stop waits for the last spans: platforms kill 10 s after they ask, and the service needs most.
_LAST_SPANS_S = 1.5
_REPORT_EVERY_US = 60 * SECOND_US


@contextmanager
def exporting(exporter: TraceExporter, clock: Clock) -> Iterator[TracerProvider]:
    """A provider as OpenTelemetry's variables describe it; at the end it sends what it has, within bounds."""
    with _reported(clock):
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        # Spans wait in a queue with a bound, and a thread of its own sends them.
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        try:
            yield provider
        finally:
            _shut_down(provider)


def _exporter(exporter: TraceExporter) -> SpanExporter:
    match exporter:
        case TraceExporter.OTLP:
            return OTLPSpanExporter()
        case TraceExporter.CONSOLE:
            # Standard output is the log's.
            return ConsoleSpanExporter(out=sys.stderr)


def _resource() -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first; the name is never `unknown_service`."""
    given = Resource.create()
    named = {"service.name": _NAME} if str(given.attributes["service.name"]).startswith("unknown_") else {}
    return given.merge(Resource(named))


def _shut_down(provider: TracerProvider) -> None:
    """OpenTelemetry's own shutdown waits for up to 30 s for a collector that does not answer."""
    ending = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
    ending.start()
    ending.join(_LAST_SPANS_S)


@contextmanager
def _reported(clock: Clock) -> Iterator[None]:
    """Report what OpenTelemetry logs by itself in this service's own terms."""
    theirs = logging.getLogger("opentelemetry")
    reports = _Reports(clock)
    propagates, theirs.propagate = theirs.propagate, False
    theirs.addHandler(reports)
    try:
        yield
    finally:
        theirs.removeHandler(reports)
        theirs.propagate = propagates


class _Reports(logging.Handler):
    """One line a minute: while a collector is away, each batch and each try of it would have one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._failures = 0
        self._next_at = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._failures += 1
        now = self._clock.now()
        if now < self._next_at:
            return
        logger.warning(
            "Traces could not be exported",
            extra={"action": "traces", "reason": record.getMessage(), "failures": self._failures},
        )
        self._failures, self._next_at = 0, now + _REPORT_EVERY_US
