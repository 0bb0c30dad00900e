"""The endpoints for memories of conversations: three for workers, and one to forget."""

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from app.clock import to_iso
from app.config.agents import MemberEnd
from app.errors import Forbidden, Invalid, MemoryForgotten, MemoryOff, MemoryTaken, TooLarge
from app.state.memory import Conversation
from app.web import checks
from app.web.auth import CALLER, Caller
from app.web.endpoints import Access, AnyEndpoint, Endpoint
from app.web.keys import CONFIG, SERVICE
from app.web.schemas import RoomName

HISTORY_BYTES = 256 * 1024
#: For the names, which JSON may write with six bytes for each.
_ENVELOPE_BYTES = 8 * 1024

#: As LiveKit makes them.
_Id = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{1,64}$(?!\n)")]
_AnyAgentName = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]{0,256}$(?!\n)",
        extra_json_schema={"format": "agent-name"},
        description="Any agent name of LiveKit's; empty for agents without one.",
    ),
]


class _Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    pass


class _Response(msgspec.Struct, rename="camel", kw_only=True):
    pass


class MemoryLoad(_Request):
    room_name: RoomName
    #: The instance of the room.
    room_sid: _Id
    agent_name: _AnyAgentName
    job_id: _Id
    dispatch_id: _Id


class MemoryForget(MemoryLoad):
    """The same fields: whoever has loaded may forget."""


class MemorySave(MemoryLoad):
    #: Grows with each save of the job, so that one that is sent twice changes nothing later.
    number: Annotated[int, Meta(ge=1, le=2**53)]
    history: Annotated[
        msgspec.Raw,
        Meta(extra_json_schema={"type": "object"}, description="A JSON object of up to 256 KiB."),
    ]


class MemoryQuery(_Request):
    room_name: RoomName
    #: None: of all agents of the room.
    agent_name: _AnyAgentName | None = None


class MemoryResponse(_Response):
    #: Null: there is none.
    history: dict[str, Any] | None
    saved_at: str | None
    success: Literal[True] = True


class MemoryTakenResponse(_Response):
    success: Literal[True] = True


class ForgottenResponse(_Response):
    #: How many conversations were forgotten.
    forgotten: int
    success: Literal[True] = True


async def load_memory(request: web.Request, fields: MemoryLoad) -> MemoryResponse:
    memory = await request.app[SERVICE].memory.load(_conversation(fields), fields.job_id, fields.dispatch_id)
    if memory is None:
        return MemoryResponse(history=None, saved_at=None)
    return MemoryResponse(history=msgspec.json.decode(memory.history), saved_at=to_iso(memory.saved_at))


async def save_memory(request: web.Request, fields: MemorySave) -> MemoryTakenResponse:
    history = bytes(fields.history)
    if not history.startswith(b"{"):
        raise Invalid("Expected `object` - at `$.history`")
    if len(history) > HISTORY_BYTES:
        raise TooLarge(f"The history exceeds {HISTORY_BYTES} bytes")
    await request.app[SERVICE].memory.save(_conversation(fields), fields.job_id, fields.number, history)
    return MemoryTakenResponse()


async def forget_memory(request: web.Request, fields: MemoryForget) -> MemoryTakenResponse:
    await request.app[SERVICE].memory.forget(_conversation(fields), fields.job_id)
    return MemoryTakenResponse()


async def forget_room(request: web.Request, query: MemoryQuery) -> ForgottenResponse:
    caller = request[CALLER]
    caller.require_room(checks.check_room_name(query.room_name))
    _require_right(request, caller, query.agent_name)
    count = await request.app[SERVICE].memory.forget_room(query.room_name, query.agent_name)
    return ForgottenResponse(forgotten=count)


def _require_right(request: web.Request, caller: Caller, agent_name: str | None) -> None:
    """Raises: Forbidden: a participant may not end these agents, and so may not make them forget."""
    if caller.is_operator:
        return
    service, config = request.app[SERVICE], request.app[CONFIG]
    names = config.agent_names if agent_name is None else (agent_name,)
    policies = (service.policies.agents.get(name, config.default_policy) for name in names)
    if any(policy.members_may_end is not MemberEnd.ALWAYS for policy in policies):
        raise Forbidden(
            "Forgetting this conversation requires an API key, since members may not always end the agent"
            " (MEMBER_END, or members_may_end in AGENTS_FILE)"
        )


def _conversation(fields: MemoryLoad) -> Conversation:
    return Conversation(
        room_name=checks.check_room_name(fields.room_name),
        room_sid=fields.room_sid,
        agent_name=fields.agent_name,
    )


_WORKER_PATH = "/api/livekit/worker/memory"

MEMORY_ENDPOINTS: tuple[AnyEndpoint, ...] = (
    Endpoint(
        method="POST",
        path=f"{_WORKER_PATH}/load",
        access=Access.WORKER,
        summary="Get what is remembered of a conversation; from now on only this job can save",
        handler=load_memory,
        body=MemoryLoad,
        answer=MemoryResponse,
        errors=(MemoryOff, MemoryForgotten),
    ),
    Endpoint(
        method="POST",
        path=f"{_WORKER_PATH}/save",
        access=Access.WORKER,
        summary="Remember a conversation, in the place of what this job has saved before",
        handler=save_memory,
        body=MemorySave,
        body_limit=HISTORY_BYTES + _ENVELOPE_BYTES,
        answer=MemoryTakenResponse,
        errors=(MemoryOff, MemoryForgotten, MemoryTaken),
    ),
    Endpoint(
        method="POST",
        path=f"{_WORKER_PATH}/forget",
        access=Access.WORKER,
        summary="Forget a conversation; also succeeds when nothing is remembered",
        handler=forget_memory,
        body=MemoryForget,
        answer=MemoryTakenResponse,
        errors=(MemoryOff, MemoryTaken),
    ),
    Endpoint(
        method="DELETE",
        path="/api/livekit/memory",
        access=Access.MEMBER,
        summary="Forget the conversations of a room at once; also succeeds when nothing is remembered",
        handler=forget_room,
        query=MemoryQuery,
        answer=ForgottenResponse,
        errors=(MemoryOff,),
    ),
)
