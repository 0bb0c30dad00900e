"""The token with which a warm agent comes into a room."""

import jwt
import pytest

from app.lifecycle.warm import WarmAgent
from app.livekit.agent_tokens import AgentTokens
from fakes.clock import SECOND_US, FakeClock
from integration.harness import KEYPAIR


@pytest.mark.parametrize(("ahead_s", "valid_s"), [(0, 60), (3_600, 3_660), (-3_600, 60)])
def test_it_is_for_one_room_and_identity_and_short_by_livekits_clock(ahead_s: int, valid_s: int) -> None:
    clock = FakeClock()
    tokens = AgentTokens(KEYPAIR, clock, lambda: clock.now() + ahead_s * SECOND_US)
    agent = WarmAgent(
        id="1", agent_name="agent", dispatch_id="AD_1", agent_identity="agent-AJ_1", created_at=clock.now()
    )

    claims = jwt.decode(tokens.issue("room", agent), KEYPAIR.secret, algorithms=["HS256"])

    assert (claims["sub"], claims["kind"], claims["iss"]) == ("agent-AJ_1", "agent", KEYPAIR.key)
    assert claims["exp"] - claims["nbf"] == pytest.approx(valid_s, abs=1)
    assert claims["video"] == {
        "roomJoin": True,
        "room": "room",
        "agent": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canUpdateOwnMetadata": True,
    }
    assert claims["attributes"] == {
        "lk.agent.name": "agent",
        "lk.agent_name": "agent",
        "agent-lifecycle.dispatch": "AD_1",
        "agent-lifecycle.warm": "claimed",
        "agent-lifecycle.holding_room": "agent-warm.1",
    }
