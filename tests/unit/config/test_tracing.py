"""OpenTelemetry's variables: what turns traces on, what is refused, and what is never logged."""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import pytest

from app.config.settings import ConfigError, load_config
from app.config.tracing import TraceExporter, misspelt

NEEDED = {
    "LIVEKIT_URL": "wss://livekit.example",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters",
    "AGENT_NAME": "agent",
}
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(NEEDED | environ)
    return refused.value.problems


@pytest.mark.parametrize(
    ("environ", "exporter"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "agents", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        (ENDPOINT, TraceExporter.OTLP),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, TraceExporter.OTLP),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, TraceExporter.OTLP),
        ({"OTEL_TRACES_EXPORTER": "console"}, TraceExporter.CONSOLE),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": ""}, TraceExporter.OTLP),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, None),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, TraceExporter.OTLP),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, TraceExporter.CONSOLE),
    ],
)
def test_what_turns_traces_on(environ: dict[str, str], exporter: TraceExporter | None) -> None:
    assert load_config(NEEDED | environ).traces is exporter


def test_what_this_service_cannot_do_is_refused_by_name() -> None:
    assert problems(OTEL_TRACES_EXPORTER="zipkin") == [
        "OTEL_TRACES_EXPORTER must be one of otlp, console, none"
    ]
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        (problem,) = problems(**ENDPOINT, **{name: "grpc"})
        assert problem.startswith(f"{name} must be http/protobuf")


class _Absent:
    """OpenTelemetry is not installed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent, *sys.meta_path])
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("without_opentelemetry")
def test_without_the_extra_the_problem_says_what_to_install() -> None:
    assert load_config(NEEDED).traces is None
    (problem,) = problems(**ENDPOINT)
    assert problem == "OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry: pip install 'agent-lifecycle[otel]'"
    (problem,) = problems(OTEL_TRACES_EXPORTER="console")
    assert problem.startswith("OTEL_TRACES_EXPORTER needs OpenTelemetry")


def test_the_keys_for_the_collector_are_secrets() -> None:
    config = load_config(
        NEEDED
        | ENDPOINT
        | {
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a-team-name,authorization=Bearer%20hunter2-hunter2",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=hunter3-hunter3",
        }
    )
    assert {"Bearer%20hunter2-hunter2", "hunter2-hunter2", "hunter3-hunter3"} <= set(config.secrets)
    assert "hunter" not in repr(config)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOIT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
        ("OTEL_TRACE_EXPORTER", "OTEL_TRACES_EXPORTER"),
    ],
)
def test_a_misspelt_variable_is_reported_at_start(name: str, meant: str) -> None:
    (warning,) = load_config(NEEDED | {name: "x"}).warnings
    assert warning.startswith(f"{name} is not a variable of OpenTelemetry")
    assert warning.endswith(f"did you mean {meant}?")


def test_no_variable_of_opentelemetrys_own_is_reported() -> None:
    modules = (opentelemetry.environment_variables, opentelemetry.sdk.environment_variables)
    declared = [one for module in modules for one in vars(module).items()]
    names = {str(value) for name, value in declared if name.startswith("OTEL_")}
    assert len(names) > 60
    assert list(misspelt(names | {"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_PYTHON_LOG_LEVEL"})) == []
