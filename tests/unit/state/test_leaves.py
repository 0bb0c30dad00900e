"""What an agent's leave means: whether it has finished, handed over, or failed."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from app.lifecycle import SECOND_US, Event, Policy, State, Terms
from app.state.leaves import Leave, event_of, has_reconnected, is_displaced, leave_of
from app.state.presence import Participant, ParticipantKind, TrackedRoom, track
from fakes.dispatches import INTENT

AT = 1_800_000_000_000_000
POLICY = Policy(
    default=Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US), interval_us=60 * SECOND_US
)
DISPATCH = replace(INTENT, state=State.ACTIVE, created_at=AT, last_activity_at=AT)
AGENT = Participant(
    sid="PA_agent", kind=ParticipantKind.AGENT, identity="agent-AJ_1", agent_name="agent", joined_at=AT
)


def person(joined_s: float) -> Participant:
    joined_at = AT + int(joined_s * SECOND_US)
    return Participant(sid=f"PA_{joined_s}", kind=ParticipantKind.PERSON, joined_at=joined_at)


def event(leave: Leave, agent: Participant = AGENT, **policy: Any) -> Event:
    return event_of(leave, DISPATCH, agent, replace(POLICY, **policy))


@pytest.mark.parametrize(
    ("stayed_s", "expected"),
    [
        (-1, Event.AGENT_LOST),
        (3, Event.AGENT_LOST),
        (9.9, Event.AGENT_LOST),
        (10, Event.AGENT_LEFT),
        (None, Event.AGENT_LEFT),
    ],
)
def test_an_agent_that_leaves_without_a_word_soon_after_its_join_has_failed(
    stayed_s: float | None, expected: Event
) -> None:
    stayed_us = None if stayed_s is None else int(stayed_s * SECOND_US)
    assert event(Leave("CLIENT_INITIATED", stayed_us)) is expected


@pytest.mark.parametrize(
    ("leaving", "expected"), [("finished", Event.AGENT_LEFT), ("failed", Event.AGENT_LOST)]
)
def test_an_agents_own_report_counts_before_everything_else(leaving: str, expected: Event) -> None:
    agent = structs.replace(AGENT, leaving=leaving, is_preparing=True)
    for stayed_us in (SECOND_US, 100 * SECOND_US):
        leave = Leave("CLIENT_INITIATED", stayed_us=stayed_us, hands_over=True)
        assert event(leave, agent) is expected


def test_an_agent_that_leaves_before_its_session_is_ready_has_failed() -> None:
    assert event(Leave("CLIENT_INITIATED"), structs.replace(AGENT, is_preparing=True)) is Event.AGENT_LOST


def test_a_hand_over_is_the_end_of_the_agent() -> None:
    assert event(Leave("CLIENT_INITIATED", 60 * SECOND_US, hands_over=True)) is Event.AGENT_HANDED_OVER
    # Nobody hands over by losing the connection, nor within seconds of joining.
    assert event(Leave("CONNECTION_TIMEOUT", 60 * SECOND_US, hands_over=True)) is Event.AGENT_LOST
    assert event(Leave("CLIENT_INITIATED", 3 * SECOND_US, hands_over=True)) is Event.AGENT_LOST


def test_an_agent_of_a_publisher_leaves_with_its_publisher() -> None:
    publishers = frozenset({"agent"})
    assert event(Leave("CLIENT_INITIATED"), publisher_agents=publishers) is Event.PUBLISHER_LEFT
    assert event(Leave("CONNECTION_TIMEOUT"), publisher_agents=publishers) is Event.AGENT_LOST


@pytest.mark.parametrize(
    ("joins_s", "left_s", "hands_over"),
    [
        ((-5, 30), 40, True),
        ((-5, 30), 140, True),
        ((-5, 30), 151, False),  # long ago
        ((-5, -1), 40, False),  # both were in before the agent
        ((30,), 40, False),  # one alone is no hand-over
        ((), 40, False),
    ],
)
def test_an_agent_hands_over_if_somebody_came_after_it_and_not_long_ago(
    joins_s: tuple[float, ...],
    left_s: float,
    hands_over: bool,  # noqa: FBT001 - a column
) -> None:
    left_at = AT + int(left_s * SECOND_US)
    leave = leave_of(AGENT, [person(joined_s) for joined_s in joins_s], "CLIENT_INITIATED", left_at)
    assert leave == Leave("CLIENT_INITIATED", stayed_us=left_at - AT, hands_over=hands_over)


def test_a_leave_without_times_says_only_its_reason() -> None:
    assert leave_of(AGENT, [person(1), person(2)], "CLIENT_INITIATED", None) == Leave("CLIENT_INITIATED")
    nameless = structs.replace(AGENT, joined_at=None)
    assert leave_of(nameless, [person(1)], "CLIENT_INITIATED", AT) == Leave("CLIENT_INITIATED")


def test_an_agent_reconnects_under_its_identity() -> None:
    again = structs.replace(AGENT, sid="PA_again")
    assert has_reconnected(AGENT, [again])
    assert not has_reconnected(AGENT, [person(1)])
    assert not has_reconnected(AGENT, [structs.replace(again, kind=ParticipantKind.PERSON)])
    assert not has_reconnected(AGENT, [structs.replace(again, kind=ParticipantKind.DEPENDENT)])


@pytest.mark.parametrize(
    ("identity", "joined_s", "expected"),
    [
        ("agent-AJ_1", 20, True),
        ("agent-AJ_1", -20, False),  # the agent has put this person out
        ("alice", 20, False),
    ],
)
def test_an_agent_is_displaced_by_a_person_who_joins_later_under_its_identity(
    identity: str,
    joined_s: float,
    expected: bool,  # noqa: FBT001 - a column
) -> None:
    room = TrackedRoom(name="room", sid="RM_1", created_at=AT)
    newcomer = track(structs.replace(person(joined_s), identity=identity), None, room, str.upper)
    assert is_displaced(AGENT, [newcomer], str.upper) is expected
