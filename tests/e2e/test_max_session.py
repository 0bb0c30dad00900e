"""The longest session on the real thing: the agent says goodbye, and is gone with the person still in."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devstack.fixture_types import Call, JoinRoom, StartService
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker

pytestmark = pytest.mark.real

FILE = """\
[agents.reusable-agent]
max_session_s = 5
warn_before_s = 3
"""


async def test_an_agent_says_goodbye_and_is_gone_with_the_person_still_in(
    reusable_worker: Worker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
    tmp_path: Path,
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(FILE, encoding="utf-8")
    service = await start_service(agent_name=reusable_worker.agent_name, AGENTS_FILE=str(file))
    caller = await call(service)
    # In before the call: the session ends 5 s after the agent has come.
    alice = await join_room(truth.name)
    await caller.request_agent(truth.name)
    await alice.wait_for_agents(1)

    goodbye = await alice.next_answer()
    seconds = re.fullmatch(r"I have to go in (\d) seconds\. Goodbye!", goodbye)
    assert seconds, goodbye
    assert int(seconds[1]) <= 3
    warned = await caller.status(truth.name)
    assert (warned["state"], warned["endingSoon"]) == ("active", True)

    async def is_over() -> bool:
        return bool((await caller.status(truth.name))["state"] == "none")

    await eventually(is_over, "the session is over")
    assert await truth.has_none()
    assert datetime.now(UTC) >= datetime.fromisoformat(warned["sessionEndsAt"])
    assert await truth.people() == ["alice"]
    [ended] = await caller.agents(roomName=truth.name, state="ended")
    assert ended["endReason"] == "max_session"
