"""The log of the real process under load, with other libraries' lines and the summaries."""

import asyncio
import json
from typing import Any

import pytest

from devstack.fixture_types import Call, JoinRoom, StartService
from devstack.relay import WebhookRelay
from fakes.log import most_in_a_printed_second

pytestmark = pytest.mark.real

LIMIT = 20
ROUNDS = 10


async def test_no_second_has_more_lines_than_the_limit(
    start_service: StartService, call: Call, join_room: JoinRoom, relay: WebhookRelay, room_name: str
) -> None:
    service = await start_service(
        LOG_RATE_LIMIT=str(LIMIT),
        LOG_LEVEL="DEBUG",
        LOG_REDACT="true",
        ENABLE_LOG_AGGREGATION="false",
        RATE_LIMIT_PER_MINUTE="0",
    )
    caller = await call(service)
    alice = await join_room(room_name)
    for _ in range(ROUNDS):
        # Each of these is a line at DEBUG, or at INFO.
        await asyncio.gather(
            *(caller.status(room_name) for _ in range(20)),
            *(caller.call("GET", "/nowhere") for _ in range(5)),
        )
        # The load has to last for more than one second, or there is only one to look at.
        await asyncio.sleep(0.2)
    await alice.leave()
    await relay.wait_for(room_name, "participant_left")
    assert await asyncio.to_thread(service.stop) == 0

    lines: list[dict[str, Any]] = [json.loads(line) for line in service.child.output().splitlines()]
    assert most_in_a_printed_second(lines) <= LIMIT
    assert room_name not in service.child.output()
    assert {line["room"][0] for line in lines if line.get("room")} <= {"#"}
    summaries = [line for line in lines if line.get("action") == "log_summary"]
    assert summaries, "a flood that drops nothing is no flood"
    own = [line for line in lines if line.get("action") != "log_summary"]
    assert sum(sum(line["written"].values()) for line in summaries) == len(own)
    answered = sum(line.get("action") == "request" for line in own)
    dropped = sum(sum(line["dropped"].values()) for line in summaries)
    assert answered + dropped >= ROUNDS * 25
