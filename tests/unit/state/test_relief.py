"""Relief: one agent takes over from another, and whatever happens meanwhile somebody answers."""

from dataclasses import replace

import pytest

from app.lifecycle import (
    SECOND_US,
    Briefing,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Signal,
    State,
    Terms,
)
from app.lifecycle.relief import awaits_relief
from app.state.changes import Due
from app.state.dispatch_set import DispatchSet
from app.state.leaves import Leave
from app.state.presence import Headcount, Participant, ParticipantKind
from fakes.dispatches import INTENT, NOW

POLICY = Policy(
    default=Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US), interval_us=60 * SECOND_US
)
TALKING = replace(
    INTENT,
    id="old",
    dispatch_id="AD_1",
    dispatched_at=NOW,
    state=State.ACTIVE,
    participant_count=1,
    agent_identity="agent-AJ_1",
    agent_joined_at=NOW,
    ready_at=NOW,
    briefing=Briefing(metadata="told", deployment="v1"),
)
IDLE = replace(TALKING, state=State.IDLE, participant_count=0, ttl_expires_at=NOW + 100 * SECOND_US)
AGENT = Participant(
    sid="PA_2",
    kind=ParticipantKind.AGENT,
    identity="agent-AJ_2",
    agent_name="agent",
    joined_at=NOW + SECOND_US,
)
FORMER = Participant(
    sid="PA_1", kind=ParticipantKind.AGENT, identity="agent-AJ_1", agent_name="agent", joined_at=NOW
)

#: Why a relief does not come although it is wanted.
FAILURES = (
    Event.NOT_DISPATCHED,
    Event.UNTAKEN,
    Event.JOIN_OVERDUE,
    Event.AGENT_LOST,
    Event.REFUTED,
    Event.MISSING,
)
#: Why it is not wanted any more.
ENDS = (Event.END_REQUESTED, Event.HOLD_REQUESTED, Event.SUPERSEDED, Event.SESSION_OVER, Event.DUPLICATE)


def dispatch_set(*dispatches: Dispatch) -> DispatchSet:
    return DispatchSet(
        policy=POLICY,
        now=NOW + 10 * SECOND_US,
        new_id=lambda: "new",
        process_id="process",
        dispatches={one.id: one for one in dispatches},
    )


def drained(dispatch: Dispatch = TALKING, briefing: Briefing | None = None) -> DispatchSet:
    rows = dispatch_set(dispatch)
    rows.signal(dispatch, Signal(event=Event.DRAINED, briefing=briefing))
    return rows


def under_way() -> DispatchSet:
    """The relief is dispatched."""
    rows = drained()
    rows.signal(rows.dispatches["new"], Signal(event=Event.DISPATCHED, dispatch_id="AD_2", dispatched_at=NOW))
    rows.effects.clear()
    return rows


def joined() -> DispatchSet:
    rows = under_way()
    rows.assign("RM_1", AGENT)
    rows.effects.clear()
    return rows


def states(rows: DispatchSet) -> tuple[State, State]:
    return rows.dispatches["old"].state, rows.dispatches["new"].state


def ordered(rows: DispatchSet) -> list[tuple[Effect, str]]:
    return [(effect, dispatch.id) for effect, dispatch in rows.effects]


def test_the_agent_stays_until_the_next_one_answers() -> None:
    rows = drained(briefing=Briefing(metadata="told", deployment="v2"))

    assert states(rows) == (State.ENDING, State.CREATING)
    assert ordered(rows) == [(Effect.CREATE, "new")]
    relief = rows.dispatches["new"]
    assert relief.briefing == Briefing(metadata="told", deployment="v2")
    assert (relief.succeeds, relief.former_agent) == ("old", "agent-AJ_1")

    rows = joined()
    assert states(rows) == (State.ENDING, State.ACTIVE)
    assert ordered(rows) == []

    rows.signal(rows.dispatches["new"], Signal(event=Event.READY, agent_identity="agent-AJ_2"))
    assert ordered(rows) == [(Effect.REMOVE, "old")]
    assert rows.dispatches["old"].end_reason is EndReason.DRAINED


def test_an_idle_agent_is_ended_and_the_next_one_comes_with_a_person() -> None:
    rows = drained(IDLE)

    assert states(rows) == (State.ENDING, State.UNAVAILABLE)
    assert ordered(rows) == [(Effect.REMOVE, "old")]
    assert rows.dispatches["new"].ttl_expires_at == IDLE.ttl_expires_at

    rows.signal_people("RM_1", Headcount(1, 0))
    assert rows.dispatches["new"].state is State.CREATING


def test_its_lease_does_not_remove_an_agent_that_still_answers() -> None:
    rows = under_way()
    old = replace(rows.dispatches["old"], retry_at=NOW)
    rows.dispatches["old"] = old

    outcome = rows.act(Due(room_name="room", row_id="old"))

    assert outcome.applied
    assert ordered(rows) == []
    assert (rows.dispatches["old"].retry_at or 0) > rows.now


def test_without_a_relief_the_lease_removes_it() -> None:
    """The removal was ordered, and a crash has lost it."""
    rows = joined()
    rows.signal(rows.dispatches["new"], Signal(event=Event.READY, agent_identity="agent-AJ_2"))
    rows.effects.clear()
    rows.dispatches["old"] = replace(rows.dispatches["old"], retry_at=NOW)

    rows.act(Due(room_name="room", row_id="old"))

    assert ordered(rows) == [(Effect.REMOVE, "old")]


@pytest.mark.parametrize("event", FAILURES)
@pytest.mark.parametrize("rows", [drained, under_way, joined])
def test_where_the_relief_does_not_come_the_agent_goes_on(event: Event, rows: object) -> None:
    assert callable(rows)
    tried = rows()

    if not tried.signal(tried.dispatches["new"], Signal(event=event)):
        return  # It is no event of that state.

    old = tried.dispatches["old"]
    assert (old.state, old.end_reason) == (State.ACTIVE, None)
    assert set(tried.dispatches) == {"old", "new"}
    assert tried.dispatches["new"].state in (State.ENDING, State.ENDED)
    assert (Effect.REMOVE, "old") not in ordered(tried)


@pytest.mark.parametrize("event", ENDS)
@pytest.mark.parametrize("rows", [drained, under_way, joined])
def test_where_no_agent_is_wanted_any_more_both_go(event: Event, rows: object) -> None:
    assert callable(rows)
    tried = rows()

    assert tried.signal(tried.dispatches["new"], Signal(event=event))

    assert (Effect.REMOVE, "old") in ordered(tried)
    assert tried.dispatches["old"].state is State.ENDING


def test_where_everybody_leaves_meanwhile_the_agent_goes() -> None:
    rows = drained()
    rows.signal_people("RM_1", Headcount(0, 0))
    assert states(rows) == (State.ENDING, State.UNAVAILABLE)
    assert (Effect.REMOVE, "old") in ordered(rows)


@pytest.mark.parametrize("reason", ["CONNECTION_TIMEOUT", "CLIENT_INITIATED"])
def test_an_agent_that_dies_meanwhile_is_not_brought_back(reason: str) -> None:
    rows = under_way()
    rows.agent_left("RM_1", FORMER, Leave(reason, stayed_us=60 * SECOND_US), (), seen=True)
    assert ordered(rows) == [(Effect.REMOVE, "old")]

    rows.signal(rows.dispatches["new"], Signal(event=Event.UNTAKEN))

    # Its removal is still under way.
    assert rows.dispatches["old"].state is State.ENDING
    live = rows.live("room", "agent")
    assert live is not None
    assert (live.state, live.succeeds) == (State.CREATING, "new")


def test_a_room_that_closes_ends_both() -> None:
    rows = joined()
    rows.signal_room("RM_1", Signal(event=Event.ROOM_FINISHED, people=0))
    assert states(rows) == (State.ENDED, State.ENDED)


def test_an_agent_that_answers_is_relieved_again() -> None:
    """The worker that took over is emptied in its turn."""
    rows = joined()
    rows.signal(rows.dispatches["new"], Signal(event=Event.READY, agent_identity="agent-AJ_2"))
    rows.signal(rows.dispatches["old"], Signal(event=Event.REMOVED))
    rows.new_id = lambda: "third"

    rows.signal(rows.dispatches["new"], Signal(event=Event.DRAINED))

    assert awaits_relief(rows.dispatches["new"], rows.dispatches.values())
    rows.signal(rows.dispatches["third"], Signal(event=Event.NOT_DISPATCHED))
    assert rows.dispatches["new"].state is State.ACTIVE
    assert rows.dispatches["old"].state is State.ENDED
