"""Without a word about traces, nothing of OpenTelemetry is there."""

import subprocess
import sys

_PROGRAM = """
import sys
import app.__main__
from app.clock import SteadyClock
from app.config.settings import load_config
from app.tracing.opening import opened_tracing
from app.web.app import create_app
config = load_config({
    "LIVEKIT_URL": "wss://livekit.example", "LIVEKIT_API_KEY": "devkey", "AGENT_NAME": "agent",
    "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters", "OTEL_SERVICE_NAME": "agents",
})
with opened_tracing(config, SteadyClock()) as tracing:
    assert tracing is None
    web = create_app(config, tracing=tracing)
assert len(web.middlewares) == 2, web.middlewares
print([name for name in sys.modules if name.partition(".")[0] == "opentelemetry"])
"""


def test_it_is_not_even_imported() -> None:
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
