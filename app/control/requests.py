"""Requests for agents, and their results."""

from dataclasses import dataclass

from app.control.processor import new_row_id
from app.lifecycle import Dispatch, State
from app.state.presence import Room


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    room_name: str
    agent_name: str
    timezone: str | None = None
    timezone_offset_min: int | None = None

    def intended(self, room: Room, now: int) -> Dispatch:
        """The dispatch that would serve the request, in this instance of the room."""
        return Dispatch(
            id=new_row_id(),
            room_name=self.room_name,
            room_sid=room.sid,
            agent_name=self.agent_name,
            state=State.CREATING,
            created_at=now,
            last_activity_at=now,
            timezone=self.timezone,
            timezone_offset_min=self.timezone_offset_min,
        )


@dataclass(frozen=True, kw_only=True)
class AgentGrant:
    dispatch: Dispatch
    #: Whether the agent was in the room, or starting, before this call.
    reused: bool
