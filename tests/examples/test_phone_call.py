"""The phone call of the examples: its files, and a caller as livekit-sip brings one, on the real stack."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from livekit import api
from livekit.protocol.sip import CreateSIPDispatchRuleRequest, CreateSIPInboundTrunkRequest

from devstack.fixture_types import Call, StartService, StartWorker
from devstack.livekit_server import LiveKitServer
from devstack.people import Person
from devstack.truth import RoomTruth, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "phone_call"
AGENT = "example-agent"
NUMBER = "+15105550199"


def read(name: str) -> Any:
    return json.loads((EXAMPLE / name).read_text(encoding="utf-8"))


def dispatch_rule() -> CreateSIPDispatchRuleRequest:
    return ParseDict(read("dispatch-rule.json"), CreateSIPDispatchRuleRequest())


def caller_token(server: LiveKitServer, room: str) -> str:
    """A token with which LiveKit's SIP service lets a caller in: the rule's room configuration is in it."""
    return (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(f"sip_{NUMBER}")
        .with_name(f"Phone {NUMBER}")
        .with_kind("sip")
        .with_attributes({"sip.phoneNumber": NUMBER, "sip.callStatus": "active"})
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .with_room_config(dispatch_rule().dispatch_rule.room_config)
        .to_jwt()
    )


def test_the_files_are_requests_of_livekits_api() -> None:
    """An unknown field is an error, as it is for `lk`."""
    trunk = ParseDict(read("inbound-trunk.json"), CreateSIPInboundTrunkRequest()).trunk
    assert trunk.numbers
    # A trunk that anybody may use is found and used within hours.
    assert trunk.allowed_addresses
    rule = dispatch_rule().dispatch_rule
    assert rule.rule.dispatch_rule_individual.room_prefix == "call-"
    assert [agent.agent_name for agent in rule.room_config.agents] == [AGENT]


@pytest.mark.real
async def test_a_caller_talks_with_an_agent_and_a_hang_up_ends_it(
    livekit_server: LiveKitServer,
    start_worker: StartWorker,
    start_service: StartService,
    call: Call,
    truth: RoomTruth,
) -> None:
    await start_worker(AGENT)
    service = await start_service(agent_name=AGENT, AGENTS_FILE=str(EXAMPLE / "agents.toml"))
    caller = await call(service)

    async with await Person().join(livekit_server.url, caller_token(livekit_server, truth.name)) as phone:
        await phone.wait_for_agents(1)
        assert await phone.ask("hello") == "turn 1: hello"

        async def is_known() -> bool:
            return bool((await caller.status(truth.name))["state"] == "active")

        await eventually(is_known, "the service has the agent that LiveKit has dispatched")
        (agent,) = await caller.agents(roomName=truth.name)
        told = await caller.call("GET", f"/api/livekit/agents/{agent['dispatchId']}")
        assert json.loads(told.body["metadata"]) == {"line": "support"}
        assert agent["sessionEndsAt"] is not None

    async def has_ended() -> bool:
        return bool((await caller.status(truth.name))["state"] == "none")

    await eventually(has_ended, "the agent is ended with the call")
    await eventually(truth.has_none, "the agent has left")
    (ended,) = await caller.agents(roomName=truth.name, state="ended")
    assert ended["endReason"] == "expired"
