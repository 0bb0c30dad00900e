"""The export: what a collector gets, and what becomes of a service whose collector is away."""

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.config.tracing import TraceExporter
from app.tracing import export
from app.tracing.export import exporting
from devstack.ports import LOOPBACK, free_port
from fakes.clock import FakeClock

_BOUND_S = 60.0
#: The thread that sends the last spans.
_LAST = "traces"


@pytest.fixture(autouse=True)
def _nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is given up at a stop would be logged during the tests that follow."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    yield
    for thread in threading.enumerate():
        if thread.name == _LAST:
            thread.join(_BOUND_S)
            assert not thread.is_alive()


class Collector:
    """It takes spans; with `status` 0 it reads them and never answers."""

    def __init__(self, status: int = 200) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.asked, self.closing = threading.Event(), threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.asked.set()
                if not status:
                    collector.closing.wait(_BOUND_S)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector(getattr(request, "param", 200))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    collector.close()


def make_a_span(clock: FakeClock, *, while_open: threading.Event | None = None) -> None:
    with exporting(TraceExporter.OTLP, clock) as provider:
        provider.get_tracer("test").start_span("one").end()
        if while_open:
            assert while_open.wait(_BOUND_S)


def service_names(collector: Collector) -> set[str]:
    return {
        attribute.value.string_value
        for request in collector.requests
        for spans in request.resource_spans
        for attribute in spans.resource.attributes
        if attribute.key == "service.name"
    }


def test_the_last_spans_are_sent_at_the_end_and_name_the_service(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    make_a_span(FakeClock())

    (request,) = collector.requests
    assert [span.name for span in request.resource_spans[0].scope_spans[0].spans] == ["one"]
    assert service_names(collector) == {"agent-lifecycle"}
    assert caplog.records == []


def test_another_name_is_opentelemetrys_variable(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "agents-of-ours")
    make_a_span(FakeClock())
    assert service_names(collector) == {"agents-of-ours"}


def test_no_provider_is_set_for_the_whole_process(collector: Collector) -> None:
    before = trace.get_tracer_provider()
    make_a_span(FakeClock())
    assert trace.get_tracer_provider() is before
    assert collector.requests


@pytest.mark.parametrize("collector", [0], indirect=True)
def test_a_collector_that_does_not_answer_holds_up_no_stop(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_LAST_SPANS_S", 0.05)
    make_a_span(FakeClock())

    # It is over although the last spans are not: a thread still waits for the answer.
    assert _LAST in {thread.name for thread in threading.enumerate()}
    assert not collector.closing.is_set()


@pytest.mark.parametrize("collector", [400], indirect=True)
def test_what_is_not_taken_is_reported_once_a_minute_in_our_own_terms(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    theirs = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with exporting(TraceExporter.OTLP, clock) as provider:
        provider.get_tracer("test").start_span("one").end()
        provider.force_flush()
        theirs.warning("Transient error %s", "a", extra={"more": 1})
        clock.advance(61)
        theirs.error("Failed to export span batch code: %s", 400)
        theirs.info("not worth a word")
    lines = [(record.name, record.getMessage(), vars(record)["failures"]) for record in caplog.records]
    assert lines == [
        ("app.tracing.export", "Traces could not be exported", 1),
        ("app.tracing.export", "Traces could not be exported", 2),
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert [vars(record)["reason"] for record in caplog.records][1].endswith("code: 400")
    assert collector.requests
    assert not logging.getLogger("opentelemetry").handlers


def test_nobody_waits_for_a_collector_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{LOOPBACK}:{free_port()}")
    monkeypatch.setattr(export, "_LAST_SPANS_S", 0.05)
    reported = threading.Event()

    def note(_: logging.LogRecord) -> bool:
        reported.set()
        return True

    monkeypatch.setattr(export.logger, "filters", [note])
    with exporting(TraceExporter.OTLP, FakeClock()) as provider:
        tracer = provider.get_tracer("test")
        # More than the queue holds.
        for _ in range(5_000):
            tracer.start_span("one").end()
        assert reported.wait(_BOUND_S)
    assert caplog.records
    assert {record.getMessage() for record in caplog.records} == {"Traces could not be exported"}
    assert len(caplog.records) == 1


def test_spans_for_the_console_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with exporting(TraceExporter.CONSOLE, FakeClock()) as provider:
        provider.get_tracer("test").start_span("one").end()
    written = capsys.readouterr()
    assert written.out == ""
    assert '"name": "one"' in written.err
