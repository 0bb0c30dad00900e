"""LiveKit's Twirp API over the world of a soak: what the service asks for, as a real server answers it."""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web
from google.protobuf.message import Message
from livekit.protocol.agent import Job, JobState, JobStatus
from livekit.protocol.agent_dispatch import (
    AgentDispatch,
    AgentDispatchState,
    CreateAgentDispatchRequest,
    DeleteAgentDispatchRequest,
    ListAgentDispatchRequest,
    ListAgentDispatchResponse,
)
from livekit.protocol.models import ParticipantInfo, ParticipantPermission
from livekit.protocol.models import Room as RoomMessage
from livekit.protocol.room import (
    CreateRoomRequest,
    ListParticipantsRequest,
    ListParticipantsResponse,
    ListRoomsRequest,
    ListRoomsResponse,
    PerformRpcRequest,
    PerformRpcResponse,
    RemoveParticipantResponse,
    RoomParticipantIdentity,
)

from app.livekit.interface import ROW_ID_ATTRIBUTE
from bench.seeds import AGENT_NAME
from bench.soak_world import Agent, Dispatch, Participant, Room, World

#: What an agent with the helper answers to a probe.
_HEALTHY = '{"session": "open", "ready": true}'
_TIMEOUT_S = 420
#: How long the dispatches of a room that nobody has are looked for.
_LOOKS_FOR_S = 3.0


class NotFoundError(Exception):
    """There is no such room, dispatch or participant; the message says which."""


class InvalidError(Exception):
    """The request lacks something."""


class LiveKitApi:
    """Answers at once, and never fails."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: How often each method was called.
        self.calls: dict[str, int] = {}
        self._methods: Mapping[str, Callable[[bytes], Message]] = {
            "ListRooms": self._list_rooms,
            "CreateRoom": self._create_room,
            "ListParticipants": self._list_participants,
            "RemoveParticipant": self._remove_participant,
            "PerformRpc": self._perform_rpc,
            "ListDispatch": self._list_dispatches,
            "CreateDispatch": self._create_dispatch,
            "DeleteDispatch": self._delete_dispatch,
        }

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["method"]
        self.calls[name] = self.calls.get(name, 0) + 1
        method = self._methods.get(name)
        if method is None:
            return _failed(404, "bad_route", f"no handler for {name}")
        body = await request.read()
        try:
            message = method(body)
        except NotFoundError as error:
            if name == "ListDispatch":
                # As livekit-server 1.13.5 does: it waits for a node that has the room.
                await asyncio.sleep(_LOOKS_FOR_S)
                return _failed(503, "unavailable", "no response from servers")
            return _failed(404, "not_found", str(error))
        except InvalidError as error:
            return _failed(400, "invalid_argument", str(error))
        return web.Response(body=message.SerializeToString(), content_type="application/protobuf")

    def _list_rooms(self, body: bytes) -> Message:
        names = ListRoomsRequest.FromString(body).names
        rooms = self._world.rooms
        found = (rooms[name] for name in names if name in rooms) if names else rooms.values()
        return ListRoomsResponse(rooms=map(_room, found))

    def _create_room(self, body: bytes) -> Message:
        # People begin the rooms of a soak, so each exists.
        return _room(self._find(CreateRoomRequest.FromString(body).name))

    def _list_participants(self, body: bytes) -> Message:
        room = self._world.rooms.get(ListParticipantsRequest.FromString(body).room)
        present = [*room.people.values(), *room.agents.values()] if room else []
        return ListParticipantsResponse(participants=map(_participant, present))

    def _remove_participant(self, body: bytes) -> Message:
        request = RoomParticipantIdentity.FromString(body)
        if not self._world.take_out(self._find(request.room), request.identity):
            raise NotFoundError("participant does not exist")
        return RemoveParticipantResponse()

    def _perform_rpc(self, body: bytes) -> Message:
        request = PerformRpcRequest.FromString(body)
        if not request.destination_identity:
            raise InvalidError("destination_identity is required")
        if request.destination_identity not in self._find(request.room).agents:
            raise NotFoundError("participant does not exist")
        return PerformRpcResponse(payload=_HEALTHY)

    def _list_dispatches(self, body: bytes) -> Message:
        room = self._find(ListAgentDispatchRequest.FromString(body).room)
        listed = (_dispatch(room, dispatch) for dispatch in room.dispatches.values())
        return ListAgentDispatchResponse(agent_dispatches=listed)

    def _create_dispatch(self, body: bytes) -> Message:
        request = CreateAgentDispatchRequest.FromString(body)
        room = self._find(request.room)
        row_id = request.attributes[ROW_ID_ATTRIBUTE]
        return _dispatch(room, self._world.create_dispatch(room, row_id, request.metadata))

    def _delete_dispatch(self, body: bytes) -> Message:
        request = DeleteAgentDispatchRequest.FromString(body)
        room = self._find(request.room)
        dispatch = self._world.delete_dispatch(room, request.dispatch_id)
        if dispatch is None:
            raise NotFoundError("dispatch does not exist")
        return _dispatch(room, dispatch)

    def _find(self, name: str) -> Room:
        room = self._world.rooms.get(name)
        if room is None:
            raise NotFoundError("requested room does not exist")
        return room


def _room(room: Room) -> RoomMessage:
    return RoomMessage(
        sid=room.sid,
        name=room.name,
        empty_timeout=_TIMEOUT_S,
        departure_timeout=_TIMEOUT_S,
        creation_time=room.created_ms // 1_000,
        creation_time_ms=room.created_ms,
        num_participants=len(room.people),
    )


def _participant(participant: Participant) -> ParticipantInfo:
    is_agent = isinstance(participant, Agent)
    kinds = ParticipantInfo.Kind
    return ParticipantInfo(
        sid=participant.sid,
        identity=participant.identity,
        state=ParticipantInfo.State.ACTIVE,
        joined_at=participant.joined_ms // 1_000,
        joined_at_ms=participant.joined_ms,
        kind=kinds.AGENT if is_agent else kinds.STANDARD,
        permission=ParticipantPermission(can_publish=True, can_subscribe=True, agent=is_agent),
        attributes={"lk.agent_name": AGENT_NAME, "lk.agent.state": "listening"} if is_agent else {},
    )


def _dispatch(room: Room, dispatch: Dispatch) -> AgentDispatch:
    state = JobState(status=JobStatus.JS_RUNNING, participant_identity=dispatch.agent_identity)
    job = Job(id=dispatch.agent_identity.removeprefix("agent-"), dispatch_id=dispatch.id, state=state)
    return AgentDispatch(
        id=dispatch.id,
        agent_name=AGENT_NAME,
        room=room.name,
        metadata=dispatch.metadata,
        state=AgentDispatchState(jobs=[job], created_at=dispatch.created_ns),
        attributes={ROW_ID_ATTRIBUTE: dispatch.row_id},
    )


def _failed(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "msg": message}, status=status)
