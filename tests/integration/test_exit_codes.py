"""How the service ends when it cannot run: with an exit code and a reason."""

import json
import socket
from pathlib import Path

from integration.process import run


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
