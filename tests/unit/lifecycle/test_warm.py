"""The life of a warm agent, over the full product of states and events."""

from dataclasses import replace
from itertools import product

import pytest

from app.lifecycle.warm import (
    POOLED,
    WARM_TABLE,
    WarmEnd,
    WarmEvent,
    WarmSignal,
    WarmState,
    decide_warm,
    is_holding_room,
)
from fakes.dispatches import NOW
from fakes.warm import CREATING, WAITING


def test_a_life() -> None:
    agent = decide_warm(CREATING, WarmSignal(event=WarmEvent.DISPATCHED, dispatch_id="AD_1"), NOW)
    agent = decide_warm(agent, WarmSignal(event=WarmEvent.READY, agent_identity="agent-AJ_1"), NOW + 1)
    assert (agent.state, agent.ready_at, agent.waited_until) == (WarmState.WAITING, NOW + 1, None)
    agent = decide_warm(agent, WarmSignal(event=WarmEvent.CLAIMED, claimed_by="row-1"), NOW + 2)
    assert (agent.state, agent.claimed_by, agent.waited_until) == (WarmState.CLAIMED, "row-1", NOW + 2)
    agent = decide_warm(agent, WarmSignal(event=WarmEvent.DISMISSED, reason=WarmEnd.USED), NOW + 3)
    agent = decide_warm(agent, WarmSignal(event=WarmEvent.REMOVED), NOW + 4)
    assert (agent.state, agent.end_reason, agent.ended_at) == (WarmState.ENDED, WarmEnd.USED, NOW + 4)
    assert (agent.dispatch_id, agent.agent_identity) == ("AD_1", "agent-AJ_1")
    assert agent.waited_until == NOW + 2


@pytest.mark.parametrize(("state", "event"), list(product(WarmState, WarmEvent)))
def test_every_event_in_every_state_does_what_the_table_says_or_nothing(
    state: WarmState, event: WarmEvent
) -> None:
    before = replace(WAITING, state=state)

    after = decide_warm(before, WarmSignal(event=event, claimed_by="row-1"), NOW)

    to = WARM_TABLE[event].get(state)
    assert after.state is (to or state)
    if to is None:
        assert after is before


def test_only_one_that_waits_can_be_claimed_and_what_is_claimed_never_waits_again() -> None:
    assert WARM_TABLE[WarmEvent.CLAIMED] == {WarmState.WAITING: WarmState.CLAIMED}
    reachable = {to for rule in WARM_TABLE.values() for state, to in rule.items() if state not in POOLED}
    assert not reachable & set(POOLED)


def test_its_holding_room_bears_its_id() -> None:
    assert WAITING.room_name == "agent-warm.warm-1"
    assert is_holding_room(WAITING.room_name)
    assert not is_holding_room("agent-warmth")
