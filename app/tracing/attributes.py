"""The attributes of spans. Where livekit-agents has a name for something, it is that name."""

from collections.abc import Callable

from app.lifecycle import Dispatch

#: (livekit-agents 1.8.9, telemetry/trace_types.py). A search for one finds both halves of a trace.
ROOM, AGENT, DISPATCH = "lk.pii.room_name", "lk.agent_name", "lk.dispatch_id"
_OWN = "agent_lifecycle."
EVENT, REASON, RESULT = f"{_OWN}event", f"{_OWN}end_reason", f"{_OWN}result"
REQUEST_ID, ATTEMPT, CAUSE = f"{_OWN}request_id", f"{_OWN}attempt", f"{_OWN}cause"
SOURCE, ERROR = f"{_OWN}source", "error.type"

SpanAttributes = dict[str, str | int]


class Attributes:
    """No name of a person is ever among them; `hide` turns the name of a room into what may be seen."""

    def __init__(self, hide: Callable[[str], str]) -> None:
        self._hide = hide

    def room(self, room_name: str) -> SpanAttributes:
        return {ROOM: self._hide(room_name)}

    def agent(self, room_name: str, agent_name: str) -> SpanAttributes:
        return self.room(room_name) | {AGENT: agent_name}

    def dispatch(self, dispatch: Dispatch) -> SpanAttributes:
        told: SpanAttributes = {
            **self.agent(dispatch.room_name, dispatch.agent_name),
            ATTEMPT: dispatch.attempt,
            SOURCE: "warm" if dispatch.holding_room else "dispatched",
        }
        optional = {DISPATCH: dispatch.dispatch_id, CAUSE: dispatch.cause, REASON: dispatch.end_reason}
        return told | {name: str(value) for name, value in optional.items() if value}
