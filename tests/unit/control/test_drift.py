"""Drift: which rooms the reconciler inspects in a round."""

from dataclasses import replace

import pytest
from msgspec import structs

from app.control.drift import ROLLING_ROUNDS, YOUNG_US, matches, needs_inspection
from app.lifecycle import Dispatch, State
from app.livekit.interface import RoomInfo
from app.state.presence import Participant, ParticipantKind
from app.state.views import KnownRoom

ROOM = RoomInfo(name="room", sid="RM_1", created_at=1, departure_timeout_s=360, participant_count=1)
ROW = Dispatch(
    id="row",
    dispatch_id="AD_1",
    room_name="room",
    room_sid="RM_1",
    agent_name="agent",
    state=State.ACTIVE,
    created_at=1,
    last_activity_at=1,
    participant_count=1,
    agent_identity="agent-1",
)
KNOWN = KnownRoom(
    name="room",
    sid="RM_1",
    generation=3,
    people=frozenset({"PA_ann"}),
    agents=frozenset({"agent-1"}),
    rows=(ROW,),
)
ANN = Participant(sid="PA_ann", kind=ParticipantKind.PERSON)
AGENT = Participant(sid="PA_agent", kind=ParticipantKind.AGENT, identity="agent-1", agent_name="agent")
EGRESS = Participant(sid="PA_egress", kind=ParticipantKind.DEPENDENT)

NOW = 10 * YOUNG_US
ROUNDS = range(ROLLING_ROUNDS)


def test_a_consistent_room_is_inspected_once_in_ten_rounds() -> None:
    assert [needs_inspection(ROOM, KNOWN, number, NOW) for number in ROUNDS].count(True) == 1


@pytest.mark.parametrize(
    "known",
    [
        None,
        replace(KNOWN, sid="RM_0"),
        replace(KNOWN, agents=frozenset()),
        replace(KNOWN, agents=frozenset({"agent-1", "agent-2"})),
        replace(KNOWN, people=frozenset()),
        replace(KNOWN, rows=()),
        *(
            replace(KNOWN, rows=(replace(ROW, state=state),))
            for state in State
            if state not in (State.ACTIVE, State.IDLE, State.ON_HOLD, State.ENDED)
        ),
    ],
)
def test_a_room_with_any_difference_is_inspected_in_every_round(known: KnownRoom | None) -> None:
    assert all(needs_inspection(ROOM, known, number, NOW) for number in ROUNDS)


def test_a_room_on_hold_is_inspected_once_in_ten_rounds_unless_an_agent_is_in() -> None:
    held = replace(ROW, state=State.ON_HOLD, dispatch_id=None, agent_identity=None)
    known = replace(KNOWN, agents=frozenset(), rows=(held,))
    assert [needs_inspection(ROOM, known, number, NOW) for number in ROUNDS].count(True) == 1
    visited = replace(known, agents=frozenset({"agent-2"}))
    assert all(needs_inspection(ROOM, visited, number, NOW) for number in ROUNDS)
    assert not matches(known, (ANN, AGENT))


def test_without_rows_a_new_room_is_inspected_and_an_old_one_is_not() -> None:
    bare = replace(KNOWN, agents=frozenset(), rows=())
    new = structs.replace(ROOM, created_at=NOW - YOUNG_US + 1)
    assert all(needs_inspection(new, bare, number, NOW) for number in ROUNDS)
    assert [needs_inspection(ROOM, bare, number, NOW) for number in ROUNDS].count(True) == 1


def test_the_tables_match_only_exactly_the_listed_participants() -> None:
    assert matches(KNOWN, (ANN, AGENT, EGRESS))
    assert not matches(KNOWN, (AGENT,))
    assert not matches(KNOWN, (ANN,))
    assert not matches(KNOWN, (ANN, AGENT, structs.replace(ANN, sid="PA_bob")))
    assert not matches(KNOWN, (ANN, AGENT, structs.replace(AGENT, sid="PA_2", identity="agent-2")))
