"""How the serving process ends when it cannot serve: with a code for scripts, and a reason for people."""

import json
import socket
from pathlib import Path

from integration.process import run


async def test_a_wrong_environment_is_2_and_every_problem_is_told() -> None:
    ended = await run("serve", LIVEKIT_URL="", AGENT_TTL_SECONDS="soon")

    assert (ended.code, ended.out) == (2, "")
    assert "LIVEKIT_URL is required" in ended.err
    assert "AGENT_TTL_SECONDS" in ended.err


async def test_a_port_that_is_taken_is_1_and_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("serve", PORT=str(port), DATABASE_URL=str(tmp_path / "lifecycle.db"))

    assert (ended.code, ended.err) == (1, "")
    last = json.loads(ended.out.splitlines()[-1])
    assert (last["level"], last["message"]) == ("critical", "The service cannot start")
    assert str(port) in last["reason"]
