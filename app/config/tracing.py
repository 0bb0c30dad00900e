"""OpenTelemetry's own variables, as far as they decide whether traces are exported, and how."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from importlib.util import find_spec
from urllib.parse import unquote

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_EXPORTER, _DISABLED = "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"
_ONLY_PROTOCOL = "http/protobuf"

#: Those whose misspelling goes unnoticed: nothing is traced, or all is, or nothing arrives.
_DECISIVE = (
    *_ENDPOINTS,
    *_HEADERS,
    _EXPORTER,
    _DISABLED,
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)
#: OpenTelemetry has a hundred variables that differ by a word: below this they are others, not misspelt ones.
_CLOSE = 0.95

#: What the extra installs and this service imports.
_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


class TraceExporter(StrEnum):
    """Where spans go."""

    OTLP = "otlp"  #: to a collector, by OTLP over HTTP
    CONSOLE = "console"  #: to standard error, for a first look


def trace_fields(environ: Mapping[str, str], problems: list[str]) -> dict[str, object]:
    """The fields of `Config` about traces; what is wrong is added to `problems`."""
    try:
        return {"traces": _exporter(environ), "trace_secrets": _secrets(environ)}
    except ValueError as problem:
        problems.append(str(problem))
        return {}


def _exporter(environ: Mapping[str, str]) -> TraceExporter | None:
    """None: nothing is traced.

    Raises:
        ValueError: a whole sentence that names the variable.
    """
    switch = next((name for name in (*_ENDPOINTS, _EXPORTER) if _text(environ, name)), None)
    chosen = _text(environ, _EXPORTER).lower() or TraceExporter.OTLP
    if switch is None or chosen == "none" or _text(environ, _DISABLED).lower() == "true":
        return None
    if chosen not in set(TraceExporter):
        raise ValueError(f"{_EXPORTER} must be one of {', '.join(TraceExporter)}, none")
    protocol = next((name for name in _PROTOCOLS if _text(environ, name)), None)
    if chosen == TraceExporter.OTLP and protocol and _text(environ, protocol) != _ONLY_PROTOCOL:
        raise ValueError(f"{protocol} must be {_ONLY_PROTOCOL}: traces are sent by no other protocol")
    if not _is_installed():
        raise ValueError(f"{switch} needs OpenTelemetry: pip install 'agent-lifecycle[otel]'")
    return TraceExporter(chosen)


def _secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the headers for the collector: most are its API keys."""
    pairs = (pair for name in _HEADERS for pair in _text(environ, name).split(","))
    values = [pair.partition("=")[2].strip() for pair in pairs]
    # `Bearer <key>` is two words, and the collector may show the second alone.
    words = [word for value in values for word in (value, *unquote(value).split())]
    return tuple(dict.fromkeys(filter(None, words)))


def misspelt(environ: Iterable[str]) -> Iterator[str]:
    """A warning for each variable that is probably a misspelt one of OpenTelemetry's."""
    for name in sorted(environ):
        if name.startswith("OTEL_") and name not in _DECISIVE:
            for meant in difflib.get_close_matches(name, _DECISIVE, n=1, cutoff=_CLOSE):
                yield f"{name} is not a variable of OpenTelemetry and is ignored; did you mean {meant}?"


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _is_installed() -> bool:
    try:
        return all(find_spec(module) for module in _MODULES)
    except ImportError:
        return False
