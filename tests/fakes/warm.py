"""Warm agents to begin a test with."""

from app.lifecycle.warm import WarmAgent, WarmState
from fakes.dispatches import NOW

CREATING = WarmAgent(id="warm-1", agent_name="agent", created_at=NOW)
WAITING = WarmAgent(
    id="warm-1",
    agent_name="agent",
    state=WarmState.WAITING,
    dispatch_id="AD_warm",
    agent_identity="agent-AJ_warm",
    created_at=NOW,
    ready_at=NOW,
)
