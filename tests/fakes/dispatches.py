"""Dispatches for tests of pure code."""

from app.lifecycle import Dispatch, State

NOW = 1_700_000_000_000_000

#: A dispatch that a call has just asked for, in an empty room.
INTENT = Dispatch(
    id="row",
    room_name="room",
    room_sid="RM_1",
    agent_name="agent",
    state=State.CREATING,
    created_at=NOW,
    last_activity_at=NOW,
)
