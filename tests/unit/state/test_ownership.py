"""Which dispatch an agent belongs to, by name, time and identity."""

from typing import Any

import pytest

from app.lifecycle import Dispatch, State
from app.state.ownership import agents_to_remove, avatars_of, awaits, future_owner, is_not_older, owner
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


def test_an_agent_under_the_identity_of_its_predecessor_stays() -> None:
    """Workers may give all their agents one identity: it names the newest of them."""
    ending = dispatch("ending", state=State.ENDING, agent_identity="helper")
    successor = dispatch("next", succeeds="ending", dispatched_at=AT + 500_000)
    newer = agent("helper", joined_at=AT + 600_000)
    assert agents_to_remove(ending, [ending, successor], [newer]) == []
    assert agents_to_remove(ending, [ending, successor], [agent("helper")]) == ["helper"]
    assert agents_to_remove(ending, [ending], [newer]) == ["helper"]


def test_the_identity_of_a_job_names_one_agent_however_late_it_joins() -> None:
    ending = dispatch("ending", state=State.ENDING, agent_identity="agent-AJ_1")
    successor = dispatch("next", succeeds="ending", dispatched_at=AT + 500_000)
    late = agent("agent-AJ_1", joined_at=AT + 600_000)
    assert agents_to_remove(ending, [ending, successor], [late]) == ["agent-AJ_1"]


def test_avatars_belong_to_the_agent_that_they_speak_for() -> None:
    avatars = [
        Participant(sid=f"PA_{n}", kind=ParticipantKind.DEPENDENT, identity=f"face-{n}", on_behalf_of=of)
        for n, of in enumerate(["agent-AJ_1", "agent-AJ_2", None])
    ]
    assert avatars_of(["agent-AJ_1", None], avatars) == ["face-0"]
    assert avatars_of([None], avatars) == []
