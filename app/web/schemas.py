"""Schemas: the fields of requests and answers, and how request fields are read."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from app.clock import Time
from app.control.requests import Source
from app.lifecycle import Dispatch, State
from app.web.checks import METADATA_BYTES
from app.web.error_responses import QueuePlace
from app.web.identities import ParticipantIdentity, ParticipantName

T = TypeVar("T")

#: Any name that LiveKit takes, but without control characters, and without blanks around it. In Python `$`
#: alone would allow a final newline; in other dialects the suffix changes nothing. Holding rooms are the
#: pool's own (lifecycle.warm).
ROOM_NAME_PATTERN = r"^(?!\s)(?!agent-warm\.)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}(?<!\s)$(?!\n)"
RoomName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=ROOM_NAME_PATTERN,
        extra_json_schema={"format": "room-name"},
        description="Any room name of LiveKit's, of up to 256 bytes in UTF-8; `agent-warm.` is reserved.",
    ),
]
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
        max_length=256,
        description="An IANA time zone name, such as `Europe/Berlin`; any other is left out, with a warning.",
    ),
]
Minutes = Annotated[
    float, Meta(description="Whole minutes from -840 to 840; any other is left out, with a warning.")
]
#: Fields of LiveKit's token endpoint; they go into a token, which has to fit into a header.
ShortText = Annotated[str, Meta(max_length=256)]
LongText = Annotated[str, Meta(max_length=4096)]
RoomConfig = Annotated[
    dict[str, Any],
    Meta(
        description="A LiveKit RoomConfiguration, else 422; `agents` may name those of `AGENT_NAME`, and "
        "`egress` needs `TOKEN_EGRESS`."
    ),
]
Attributes = Annotated[
    dict[ShortText, LongText],
    Meta(description="Names that begin with `lk.` need `TOKEN_LK_ATTRIBUTES`."),
]

Metadata = Annotated[
    str | dict[str, Any],
    Meta(description="For the agent's job: a text of up to 16 KiB, or a JSON object that is sent as one."),
]
#: JSON may write each byte of it as six.
DISPATCH_BODY_BYTES = 6 * METADATA_BYTES + 16 * 1024

WaitS = Annotated[
    float,
    Meta(ge=0, le=30, description="Seconds to wait for a place when the agent is at capacity; 0: none."),
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
    timezone_offset: Minutes | None = None
    agent_name: AgentName | None = None
    #: On reuse the agent keeps what it was told at its start.
    metadata: Metadata | None = None
    replace_if_metadata_differs: bool = False
    #: Whether an agent that is on hold comes back.
    resume: bool = False
    #: The answer comes once the agent answers, or says why it does not.
    wait: Literal["ready"] | None = None
    #: How long the call may wait for a place if the agent is at capacity.
    wait_s: WaitS = 0


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


class TokenRequest(msgspec.Struct, kw_only=True):
    """LiveKit's TokenSourceRequest (livekit_token_source.proto); all fields are optional.

    LiveKit's SDKs send fields that this service does not know; they are ignored.
    """

    room_name: RoomName | None = None
    participant_identity: ParticipantIdentity | None = None
    participant_name: ParticipantName | None = None
    participant_metadata: LongText | None = None
    participant_attributes: Attributes | None = None
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
    #: Null while the room is on hold: it has no agent.
    source: Source | None
    state: str
    ttl_expires_at: Time | None
    message: str
    #: Whether the agent was told the metadata of this call; null without metadata.
    metadata_applied: bool | None
    #: What was left out of the request.
    warnings: list[str]
    #: Whether the agent is in the room and answers.
    ready: bool
    #: For a call that waited for it: how long that took.
    ready_after_ms: int | None
    #: Where the call stood when it came, and how long it waited; null if it did not wait for a place.
    queue: QueuePlace | None
    success: bool = True


class EndResponse(_Response):
    dispatch_id: str | None
    message: str
    success: bool = True


class StatusResponse(_Response, omit_defaults=True):
    has_agent: bool
    state: str
    dispatch_id: str | msgspec.UnsetType | None = msgspec.UNSET
    created_at: Time | msgspec.UnsetType = msgspec.UNSET
    last_activity_at: Time | msgspec.UnsetType = msgspec.UNSET
    participant_count: int | msgspec.UnsetType = msgspec.UNSET
    ttl_expires_at: Time | msgspec.UnsetType | None = msgspec.UNSET
    #: Null if its session has no longest length, and before its first agent has joined.
    session_ends_at: Time | msgspec.UnsetType | None = msgspec.UNSET
    #: Whether the session is in the time for which its agent is warned.
    ending_soon: bool | msgspec.UnsetType = msgspec.UNSET
    #: Whether the agent is in the room and answers.
    ready: bool | msgspec.UnsetType = msgspec.UNSET


class AgentItem(_Response):
    dispatch_id: str
    room_name: str
    agent_name: str
    state: str
    created_at: Time
    last_activity_at: Time
    participant_count: int
    ttl_expires_at: Time | None
    session_ends_at: Time | None
    ending_soon: bool
    agent_identity: str | None
    end_reason: str | None
    #: Which workers it is for; "": those without a deployment.
    deployment: str = ""


class AgentList(_Response):
    agents: list[AgentItem]
    next_cursor: str | None


class HistoryItem(_Response):
    at: Time
    event: str
    #: A description of the event for people: what happened, and why.
    message: str
    from_state: str | None
    to_state: str
    participant_count: int


class AgentHistory(_Response):
    agent: AgentItem
    #: What LiveKit was told for the agent's job.
    metadata: str
    deployment: str
    history: list[HistoryItem]


def has_unknown_fields(body: bytes, kind: type[msgspec.Struct]) -> bool:
    """Whether a body that was read as `kind` has fields that this type does not know."""
    return not msgspec.json.decode(body or b"{}").keys() <= set(kind.__struct_encode_fields__)


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
