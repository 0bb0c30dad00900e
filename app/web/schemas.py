"""Schemas: the fields of requests and answers, and how request fields are read."""

from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from app.config.settings import ROOM_NAME_PATTERN
from app.errors import Invalid
from app.lifecycle import Dispatch, State

T = TypeVar("T")

RoomName = Annotated[str, Meta(min_length=1, max_length=128, pattern=ROOM_NAME_PATTERN)]
AgentName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        extra_json_schema={"format": "agent-name"},
        description="One of `AGENT_NAME`.",
    ),
]
Timezone = Annotated[
    str,
    Meta(
        max_length=64,
        extra_json_schema={"format": "timezone"},
        description="An IANA time zone name, such as `Europe/Berlin`.",
    ),
]
#: Not `int`: JSON Schema accepts 60.0 as an integer, and so do clients generated from the document.
WholeMinutes = Annotated[float, Meta(ge=-840, le=840, multiple_of=1)]
#: Fields of LiveKit's token endpoint; they go into a token, which has to fit into a header.
ShortText = Annotated[str, Meta(max_length=256)]
LongText = Annotated[str, Meta(max_length=4096)]
RoomConfig = Annotated[
    dict[str, Any],
    Meta(description="A LiveKit RoomConfiguration, else 422; `agents` may name those of `AGENT_NAME`."),
]

_ANY_STATE = "|".join(State)
StateList = Annotated[
    str,
    Meta(
        pattern=rf"^({_ANY_STATE})(,({_ANY_STATE})){{0,20}}$(?!\n)",
        description="One or more states, comma separated.",
    ),
]
#: Creation time and row id of the last item, so that new and ended ones do not shift the next page.
Cursor = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,18}\.[0-9A-Za-z]{1,32}$(?!\n)",
        description="The `nextCursor` of the previous page.",
    ),
]

_OPEN_STATES = tuple(state for state in State if state is not State.ENDED)


class _Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    pass


class DispatchRequest(_Request):
    room_name: RoomName
    timezone: Timezone | None = None
    timezone_offset: WholeMinutes | None = None
    agent_name: AgentName | None = None


class RoomQuery(_Request):
    room_name: RoomName
    agent_name: AgentName | None = None


class EndQuery(RoomQuery):
    #: The agent stays if LiveKit lists people in the room: for a caller that could not join.
    only_if_empty: bool = False


class NoQuery(_Request):
    """For endpoints without parameters."""


class ListQuery(_Request):
    state: StateList | None = None
    room_name: RoomName | None = None
    agent_name: AgentName | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: Cursor | None = None


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """LiveKit's TokenSourceRequest (livekit_token_source.proto); all fields are optional."""

    room_name: RoomName | None = None
    participant_identity: ShortText | None = None
    participant_name: ShortText | None = None
    participant_metadata: LongText | None = None
    participant_attributes: dict[ShortText, LongText] | None = None
    room_config: RoomConfig | None = None


class TokenResponse(msgspec.Struct, kw_only=True):
    server_url: str
    participant_token: str


class _Response(msgspec.Struct, rename="camel", kw_only=True):
    pass


class Taken(_Response):
    success: Literal[True] = True


class Health(_Response):
    status: Literal["ok"] = "ok"


class DispatchResponse(_Response):
    dispatch_id: str | None
    reused: bool
    state: str
    ttl_expires_at: str | None
    message: str
    success: bool = True


class EndResponse(_Response):
    dispatch_id: str | None
    message: str
    success: bool = True


class StatusResponse(_Response, omit_defaults=True):
    has_agent: bool
    state: str
    dispatch_id: str | msgspec.UnsetType | None = msgspec.UNSET
    created_at: str | msgspec.UnsetType = msgspec.UNSET
    last_activity_at: str | msgspec.UnsetType = msgspec.UNSET
    participant_count: int | msgspec.UnsetType = msgspec.UNSET
    ttl_expires_at: str | msgspec.UnsetType | None = msgspec.UNSET


class AgentItem(_Response):
    dispatch_id: str
    room_name: str
    agent_name: str
    state: str
    created_at: str
    last_activity_at: str
    participant_count: int
    ttl_expires_at: str | None
    agent_identity: str | None
    end_reason: str | None


class AgentList(_Response):
    agents: list[AgentItem]
    next_cursor: str | None


class HistoryItem(_Response):
    at: str
    event: str
    #: A description of the event for people: what happened, and why.
    message: str
    from_state: str | None
    to_state: str
    participant_count: int


class AgentHistory(_Response):
    agent: AgentItem
    history: list[HistoryItem]


def check_timezone(name: str | None) -> str | None:
    """Raises: Invalid: it is not an IANA time zone name."""
    if name is None:
        return None
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid("timezone is not an IANA time zone name - at `$.timezone`") from error
    return name


def states(query: ListQuery) -> tuple[State, ...]:
    """The states to list; without a choice, all but `ended`."""
    return tuple(map(State, query.state.split(","))) if query.state else _OPEN_STATES


def after(query: ListQuery) -> tuple[int, str] | None:
    """Where the previous page ended: creation time and row id."""
    if query.cursor is None:
        return None
    created_at, _, row_id = query.cursor.partition(".")
    return int(created_at), row_id


def cursor(last: Dispatch) -> str:
    return f"{last.created_at}.{last.id}"
