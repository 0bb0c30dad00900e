"""Whose leave closes a session with default options."""

from typing import Any

import pytest

from app.lifecycle import SECOND_US
from app.state.links import has_lost_its_user, pseudonyms
from app.state.views import Company, Visit

JOINED_AT = 1_800_000_000_000_000


def visit(person: str | None, after_s: float, left: str | None = None) -> Visit:
    joined_at = JOINED_AT + int(after_s * SECOND_US)
    return Visit(
        person=person, joined_at=joined_at, left_at=joined_at + 1 if left else None, leave_reason=left
    )


def lost(*visits: Visit, **fields: Any) -> bool:
    values: dict[str, Any] = {"agent_joined_at": JOINED_AT, "is_announced": True} | fields
    return has_lost_its_user(Company(visits=visits, **values))


def test_an_agent_that_met_nobody_has_lost_nobody() -> None:
    assert not lost()


@pytest.mark.parametrize(
    ("reason", "is_lost"),
    [
        ("CLIENT_INITIATED", True),
        ("ROOM_DELETED", True),
        ("USER_REJECTED", True),
        ("DUPLICATE_IDENTITY", False),
        ("SIGNAL_CLOSE", False),
        ("STATE_MISMATCH", False),
    ],
)
def test_only_some_leaves_close_a_session(reason: str, is_lost: bool) -> None:  # noqa: FBT001
    assert lost(visit("ann", -5, reason)) is is_lost


def test_the_first_to_come_is_the_one_that_counts() -> None:
    assert not lost(visit("ann", 5), visit("bob", 9, "CLIENT_INITIATED"))
    assert lost(visit("ann", 5, "CLIENT_INITIATED"), visit("bob", 9))


def test_those_who_were_in_before_the_session_started_may_each_be_the_one() -> None:
    """livekit-agents takes any of them: its table of participants has no order."""
    assert lost(visit("ann", -5), visit("bob", -2, "CLIENT_INITIATED"))
    assert lost(visit("ann", -5, "CLIENT_INITIATED"), visit("bob", -2))
    assert not lost(visit("ann", -5), visit("bob", -2), visit("carol", 9, "CLIENT_INITIATED"))


def test_a_person_is_the_same_at_each_visit() -> None:
    """A refresh that LiveKit reports as a lost connection, and then a real leave."""
    assert lost(visit("ann", -5, "SIGNAL_CLOSE"), visit("ann", 9, "CLIENT_INITIATED"))
    assert lost(visit("ann", 5, "CLIENT_INITIATED"), visit("ann", 6))


def test_participants_that_no_session_is_linked_to_do_not_count() -> None:
    assert not lost(visit(None, 1, "CLIENT_INITIATED"), visit("ann", 5))


def test_visits_of_an_earlier_version_have_no_time_and_may_each_be_the_one() -> None:
    before = Visit(person=None, joined_at=None, left_at=JOINED_AT, leave_reason="CLIENT_INITIATED")
    assert lost(before)


def test_a_pseudonym_depends_on_the_identity_and_on_the_secret() -> None:
    first, second = pseudonyms("secret"), pseudonyms("another")
    assert first("ann") == first("ann")
    assert len({first("ann"), first("bob"), second("ann"), "ann"}) == 4
    assert len(first("\ud800" * 256)) == 16
