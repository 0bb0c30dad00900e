"""Which dispatch an agent belongs to, by name, time and identity."""

from typing import Any

import pytest

from app.lifecycle import Dispatch, State
from app.state.ownership import agents_to_remove, awaits, future_owner, is_not_older, owner
from app.state.presence import Participant, ParticipantKind

AT = 1_800_000_000_000_000


def dispatch(row_id: str = "row", **fields: Any) -> Dispatch:
    values: dict[str, Any] = {
        "room_name": "room",
        "room_sid": "RM_1",
        "agent_name": "agent",
        "state": State.STARTING,
        "created_at": AT,
        "last_activity_at": AT,
        "dispatched_at": AT,
    }
    return Dispatch(id=row_id, **(values | fields))


def agent(
    identity: str = "agent-AJ_1", name: str = "agent", joined_at: int | None = AT + 300_000
) -> Participant:
    return Participant(
        sid=f"PA_{identity}",
        kind=ParticipantKind.AGENT,
        identity=identity,
        agent_name=name,
        joined_at=joined_at,
    )


@pytest.mark.parametrize(
    ("joined_at", "fits"), [(AT, True), (AT - 1_000, True), (AT - 1_001, False), (None, True)]
)
def test_an_agent_that_is_older_belongs_to_another_dispatch(joined_at: int | None, fits: bool) -> None:  # noqa: FBT001
    """Within LiveKit's millisecond; a server that reports no time of joining excludes nothing."""
    assert is_not_older(agent(joined_at=joined_at), AT) is fits
    assert awaits(dispatch(), agent(joined_at=joined_at)) is fits


def test_a_dispatch_awaits_an_agent_of_its_name_until_it_has_one() -> None:
    assert awaits(dispatch(), agent())
    assert not awaits(dispatch(), agent(name="other"))
    assert not awaits(dispatch(agent_identity="agent-AJ_0"), agent())
    assert not awaits(dispatch(state=State.ACTIVE), agent())


def test_an_agent_that_reconnects_has_its_owner() -> None:
    mine = dispatch(agent_identity="agent-AJ_1", state=State.ACTIVE)
    assert owner(agent(), [dispatch("other"), mine]) is mine


def test_a_late_agent_of_the_predecessor_is_not_given_to_the_successor() -> None:
    before = dispatch("before", state=State.ENDING)
    unconfirmed = dispatch("after", state=State.CREATING, succeeds="before", dispatched_at=None)
    assert future_owner(agent(), [before, unconfirmed]) is None
    confirmed = dispatch("after", succeeds="before", dispatched_at=AT + 100_000)
    assert future_owner(agent(), [before, confirmed]) is confirmed


def test_only_its_own_agent_or_a_stray_one_goes_with_a_dispatch() -> None:
    ending = dispatch("ending", state=State.ENDING)
    successor = dispatch("next", succeeds="ending", dispatched_at=AT + 500_000)
    others = dispatch("others", agent_name="agent", agent_identity="agent-AJ_9", state=State.ACTIVE)
    stray, late = agent("agent-AJ_2"), agent("agent-AJ_3", joined_at=AT + 600_000)
    present = [stray, late, agent("agent-AJ_9"), agent("agent-AJ_4", name="other")]
    assert agents_to_remove(ending, [ending, successor, others], present) == ["agent-AJ_2"]
    known = dispatch("ending", state=State.ENDING, agent_identity="agent-AJ_3")
    assert agents_to_remove(known, [known, others], present) == ["agent-AJ_3"]
