"""When a conversation is over, for every event in every state."""

from itertools import product

import pytest

from app.lifecycle import LIVE_STATES, Dispatch, EndReason, Event, Policy, Signal, State, decide
from app.lifecycle.conversation import ends_conversation, may_converse
from app.lifecycle.table import TABLE
from app.lifecycle.terms import Terms

NOW = 1_000_000_000
POLICY = Policy(default=Terms(ttl_us=300_000_000, join_timeout_us=15_000_000), interval_us=60_000_000)
GOES_ON = (EndReason.MAX_SESSION, EndReason.ON_HOLD, EndReason.DUPLICATE)


def dispatch(state: State, end_reason: EndReason | None = None) -> Dispatch:
    return Dispatch(
        id="row",
        dispatch_id="AD_1",
        room_name="room",
        room_sid="RM_1",
        agent_name="agent",
        state=state,
        created_at=1,
        last_activity_at=1,
        agent_identity="agent-1",
        end_reason=end_reason,
    )


def after(before: Dispatch, event: Event) -> Dispatch:
    return decide(before, Signal(event=event, successor_id="next"), NOW, POLICY).dispatch


@pytest.mark.parametrize(
    ("event", "state"), [(event, state) for event, rules in TABLE.items() for state in rules]
)
def test_a_conversation_is_over_once_nothing_can_bring_its_agent_back(event: Event, state: State) -> None:
    reasons = [*EndReason] if state is State.ENDING else [None]
    for reason in reasons:
        before = dispatch(state, reason)
        decided = after(before, event)
        ends = ends_conversation(before, decided, event)
        if decided.state in LIVE_STATES or decided.end_reason in GOES_ON or event is Event.NOT_DISPATCHED:
            assert not ends
        elif decided.state is State.ENDED:
            assert ends
        elif decided.end_reason is EndReason.EXPIRED:
            # LiveKit may still say that somebody is in.
            assert not ends
        else:
            assert ends == ((before.state, before.end_reason) != (State.ENDING, decided.end_reason))


def test_who_may_converse_is_who_may_still_be_live() -> None:
    for state, reason in product(State, [None, *EndReason]):
        may = state in LIVE_STATES or (state, reason) == (State.ENDING, EndReason.EXPIRED)
        assert may_converse(state, reason) is may
