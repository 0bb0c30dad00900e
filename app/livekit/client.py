"""LiveKit over livekit-api, with the one call that it lacks, and errors that say what is known."""

from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from livekit import api
from livekit.api.agent_dispatch_service import AgentDispatchService
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.models import Room as RoomMessage

from app.clock import Clock
from app.config.settings import Keypair
from app.errors import LiveKitTimeout
from app.lifecycle import SECOND_US
from app.livekit.interface import (
    HEALTH_METHOD,
    LEAVING_ATTRIBUTE,
    ROW_ID_ATTRIBUTE,
    ListedDispatch,
    Probe,
    RoomInfo,
    agent_name_of,
    kind_of,
)
from app.livekit.twirp import NoDataChannel, RpcFailed, RpcRoomService, absent_is_false, translated
from app.state.presence import Participant, ParticipantKind

#: A participant that can be told to go is told within milliseconds.
_REMOVE_TIMEOUT_S = 1.5
#: Unsupported method, and application error.
_SPOKEN = frozenset({"1400", "1500"})


class LiveKitClient:
    """`LiveKit` over livekit-api."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keypair: Keypair, clock: Clock) -> None:
        # Failover replays a request in another region without saying so: an act must happen once.
        arguments = (session, url, keypair.key, keypair.secret, False)
        self._rooms = RpcRoomService(*arguments)
        self._dispatches = AgentDispatchService(*arguments)
        self._clock = clock
        self._ahead_us = 0
        # livekit-api keeps the headers of an answer to itself.
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._hear_time)
        trace.freeze()
        session.trace_configs.append(trace)

    def now(self) -> int:
        return self._clock.now() + self._ahead_us

    async def find_room(self, room_name: str) -> RoomInfo | None:
        async with translated():
            answer = await self._rooms.list_rooms(api.ListRoomsRequest(names=[room_name]))
        return next((_room(room) for room in answer.rooms if room.name == room_name), None)

    async def list_rooms(self) -> tuple[RoomInfo, ...]:
        async with translated():
            answer = await self._rooms.list_rooms(api.ListRoomsRequest())
        return tuple(map(_room, answer.rooms))

    async def ensure_room(self, room_name: str, timeout_s: int) -> RoomInfo:
        request = api.CreateRoomRequest(name=room_name, empty_timeout=timeout_s, departure_timeout=timeout_s)
        async with translated():
            return _room(await self._rooms.create_room(request))

    async def list_dispatches(self, room_name: str) -> tuple[ListedDispatch, ...]:
        async with translated():
            listed = await self._dispatches.list_dispatch(room_name)
        # Every room has a dispatch without a name, from its creation; it is nobody's.
        return tuple(_dispatch(dispatch) for dispatch in listed if dispatch.agent_name)

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        async with translated():
            answer = await self._rooms.list_participants(api.ListParticipantsRequest(room=room_name))
        gone = ParticipantInfo.State.DISCONNECTED
        return tuple(participant_of(p) for p in answer.participants if p.state != gone)

    async def list_people(self, room_name: str) -> frozenset[str]:
        async with translated():
            answer = await self._rooms.list_participants(api.ListParticipantsRequest(room=room_name))
        active = ParticipantInfo.State.ACTIVE
        return frozenset(
            p.identity
            for p in answer.participants
            if p.state == active and participant_of(p).kind is ParticipantKind.PERSON
        )

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, metadata: str
    ) -> ListedDispatch:
        request = api.CreateAgentDispatchRequest(
            room=room_name, agent_name=agent_name, metadata=metadata, attributes={ROW_ID_ATTRIBUTE: row_id}
        )
        async with translated():
            return _dispatch(await self._dispatches.create_dispatch(request))

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        async with absent_is_false() as result, translated():
            await self._dispatches.delete_dispatch(dispatch_id, room_name)
        return result.found

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        request = api.RoomParticipantIdentity(room=room_name, identity=identity)
        try:
            async with absent_is_false() as result, translated(_REMOVE_TIMEOUT_S):
                await self._rooms.remove_participant(request)
        except LiveKitTimeout:
            # One that leaves at this moment is still found but hears nothing any more, and LiveKit asks it
            # for up to 15 s (livekit-server 1.13.5, service/roomservice.go; psrpc's retries).
            if await self._is_in(room_name, identity):
                raise
        return result.found

    async def delete_room(self, room_name: str) -> bool:
        """Close a room, whoever is in; False when there is none."""
        async with absent_is_false() as result, translated():
            await self._rooms.delete_room(api.DeleteRoomRequest(room=room_name))
        return result.found

    async def _hear_time(
        self, _session: aiohttp.ClientSession, _context: object, end: aiohttp.TraceRequestEndParams
    ) -> None:
        """The Date of an answer is LiveKit's time, or that of the proxy beside it, in whole seconds."""
        told = _time_of(end.response.headers.get("Date"))
        if told is not None and "/twirp/" in end.url.path:
            self._ahead_us = told - self._clock.now()

    async def _is_in(self, room_name: str, identity: str) -> bool:
        async with translated():
            answer = await self._rooms.list_participants(api.ListParticipantsRequest(room=room_name))
        return any(participant.identity == identity for participant in answer.participants)

    async def probe(self, room_name: str, identity: str) -> Probe:
        try:
            async with absent_is_false() as result, translated():
                payload = await self._rooms.perform_rpc(room_name, identity, HEALTH_METHOD)
        except NoDataChannel:
            return Probe.CONNECTING
        except RpcFailed as failure:
            # Only a living process can say that it does not know the method, or that it failed.
            return Probe.ALIVE if failure.rpc_code in _SPOKEN else Probe.SILENT
        # Absent is who has left while asked. Of one who was never in, LiveKit says that nobody answers.
        return _probe_of(payload) if result.found else Probe.SILENT


def _time_of(date: str | None) -> int | None:
    try:
        return round(parsedate_to_datetime(date).timestamp()) * SECOND_US if date else None
    except ValueError:
        return None


def participant_of(info: ParticipantInfo) -> Participant:
    """A participant without anything that is personal: only an agent keeps its identity."""
    kind = kind_of(
        ParticipantInfo.Kind.Name(info.kind),
        is_agent=info.permission.agent,
        is_recorder=info.permission.recorder,
    )
    is_agent = kind is ParticipantKind.AGENT
    return Participant(
        sid=info.sid,
        kind=kind,
        identity=info.identity if is_agent else None,
        agent_name=agent_name_of(info.attributes) if is_agent else None,
        joined_at=info.joined_at_ms * 1_000 or None,
        leaving=info.attributes.get(LEAVING_ATTRIBUTE) if is_agent else None,
    )


def _room(message: RoomMessage) -> RoomInfo:
    return RoomInfo(
        name=message.name,
        sid=message.sid,
        created_at=message.creation_time_ms * 1_000 or message.creation_time * 1_000_000,
        departure_timeout_s=message.departure_timeout,
        participant_count=message.num_participants,
    )


def _dispatch(message: Any) -> ListedDispatch:
    return ListedDispatch(
        id=message.id,
        agent_name=message.agent_name,
        created_at=message.state.created_at // 1_000,
        row_id=message.attributes.get(ROW_ID_ATTRIBUTE),
        agent_identities=tuple(
            job.state.participant_identity or f"agent-{job.id}" for job in message.state.jobs
        ),
    )


def _probe_of(payload: str) -> Probe:
    try:
        session = msgspec.json.decode(payload, type=_Health).session
    except msgspec.MsgspecError:
        return Probe.ALIVE
    return Probe.CLOSED if session == "closed" else Probe.OPEN


class _Health(msgspec.Struct):
    session: str
