"""The command `dev`: runs the whole stack on this machine, for a browser, until Ctrl-C."""

import argparse
import sys
import time
from pathlib import Path

from devstack.demo_assets import ensure_demo_assets
from devstack.go_build import BuildFailedError
from devstack.interruption import Interruption, StopRequested
from devstack.npm import NpmError
from devstack.output import Follower
from devstack.processes import ChildFailedError
from devstack.service import API_KEY
from devstack.stack import Stack, StackOptions

_WATCH_EVERY_S = 0.2


def main() -> int:
    """Run the stack; the exit code is 0 after Ctrl-C or SIGTERM, 1 when something failed or died."""
    options = _options()
    report = _Reporter(time.monotonic())
    interruption = Interruption()
    interruption.install()
    try:
        ensure_demo_assets(report)
        _run(Stack(options, report, undisturbed=interruption.deferred), interruption)
    except StopRequested:
        report("stopped")
    except (BuildFailedError, ChildFailedError, NpmError) as problem:
        print(f"dev: {problem}", file=sys.stderr, flush=True)
        return 1
    return 0


def _run(stack: Stack, interruption: Interruption) -> None:
    interruption.at_second(stack.kill)
    try:
        stack.start()
        print(_welcome(stack), flush=True)
        _watch(stack)
    finally:
        stack.stop()


def _options() -> StackOptions:
    parser = argparse.ArgumentParser(
        prog="dev",
        description="Run LiveKit, the agent lifecycle service and an example agent on this machine.",
    )
    add = parser.add_argument
    add("--port", type=int, default=8080, help="the service's port (default: %(default)s, or a free one)")
    add("--livekit-port", type=int, default=7880, help="LiveKit's port (default: %(default)s, or a free one)")
    add(
        "--agent-name",
        default="example-agent",
        help="agent name of the example worker; more names after commas (default: %(default)s)",
    )
    add("--ttl-seconds", type=int, default=300, help="how long an agent waits alone (default: %(default)s)")
    add("--data-dir", type=Path, default=Path("data/dev"), help="database and logs (default: %(default)s)")
    given = parser.parse_args()
    return StackOptions(
        port=given.port,
        livekit_port=given.livekit_port,
        agent_name=given.agent_name,
        ttl_s=given.ttl_seconds,
        folder=given.data_dir.resolve(),
    )


def _watch(stack: Stack) -> None:
    """Print the children's warnings and errors until a child ends or a signal arrives."""
    followers = [Follower(child) for child in stack.children]
    while True:
        for follower in followers:
            for line in follower.important_lines():
                print(line, flush=True)
        for child in stack.children:
            if not child.running:
                raise ChildFailedError(f"{child.name} ended with {child.exit_code}\n{child.tail()}")
        time.sleep(_WATCH_EVERY_S)


class _Reporter:
    """Prints one line per step, with the seconds since the start."""

    def __init__(self, started: float) -> None:
        self._started = started

    def __call__(self, line: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f} s] {line}", flush=True)


def _welcome(stack: Stack) -> str:
    base = stack.service.base_url
    return f"""
Open   {base}/demo     (talk to the agent; refresh, close the tab, come back)
Also   {base}/dashboard (a live view; sign in with the API key {API_KEY})
       {base}/readyz   (readiness, and the reason if not ready)

Or request an agent from another terminal:
  curl -s -X POST {base}/api/livekit/dispatch-agent \\
    -H 'Authorization: Bearer {API_KEY}' -H 'Content-Type: application/json' -d '{{"roomName": "demo"}}'
And list the agents:
  API_KEYS={API_KEY} {sys.executable} -m app status --url {base}

LiveKit is at {stack.server.url} (key {stack.server.api_key}, secret {stack.server.api_secret}).
Logs are in {stack.service.child.log_file.parent}. Ctrl-C stops everything.
"""


if __name__ == "__main__":
    sys.exit(main())
