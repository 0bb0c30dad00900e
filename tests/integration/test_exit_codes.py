"""How the service ends when it cannot run: with an exit code and a reason."""

import json
import socket
from pathlib import Path

from integration.process import run, running


async def test_an_invalid_environment_exits_with_2_and_prints_every_problem() -> None:
    ended = await run("serve", LIVEKIT_URL="", AGENT_TTL_SECONDS="soon")

    assert (ended.code, ended.out) == (2, "")
    assert "LIVEKIT_URL is required" in ended.err
    assert "AGENT_TTL_SECONDS" in ended.err


async def test_a_port_in_use_exits_with_1_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("serve", PORT=str(port), DATABASE_URL=str(tmp_path / "lifecycle.db"))

    assert (ended.code, ended.err) == (1, "")
    last = json.loads(ended.out.splitlines()[-1])
    assert (last["level"], last["message"]) == ("critical", "The service cannot start")
    assert str(port) in last["reason"]


async def test_traces_without_opentelemetry_exit_with_2_and_say_what_to_install(tmp_path: Path) -> None:
    absent = tmp_path / "opentelemetry"
    absent.mkdir()
    (absent / "__init__.py").write_text("raise ModuleNotFoundError('it is not installed')\n")

    ended = await run("serve", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path))

    assert (ended.code, ended.out) == (2, "")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry: pip install 'agent-lifecycle[otel]'" in ended.err


async def test_a_variable_that_opentelemetry_rejects_exits_with_2_and_its_reason() -> None:
    ended = await run("serve", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="-5")

    assert ended.code == 2
    assert (
        "OpenTelemetry rejects one of the OTEL_ variables" in json.loads(ended.out.splitlines()[-1])["reason"]
    )


async def test_a_collector_that_is_away_keeps_nobody_from_serving_or_stopping(tmp_path: Path) -> None:
    # `running` requires a clean end.
    async with running(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_BSP_SCHEDULE_DELAY="10",
        DATABASE_URL=str(tmp_path / "lifecycle.db"),
    ) as service:
        assert await service.get("/api/livekit/agents") == 200
        assert await service.get("/healthz") == 200
