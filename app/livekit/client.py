"""The LiveKit client: livekit-api with the missing RPC call and errors that state what is known."""

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from livekit import api
from livekit.api.agent_dispatch_service import AgentDispatchService
from livekit.protocol.agent import JobStatus
from livekit.protocol.agent_dispatch import JobRestartPolicy
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.models import Room as RoomMessage

from app.clock import Clock
from app.config.settings import Keypair
from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable
from app.lifecycle import SECOND_US, Briefing
from app.livekit.interface import (
    HEALTH_METHOD,
    ROW_ID_ATTRIBUTE,
    ListedDispatch,
    Probe,
    RoomInfo,
    briefing_of,
    make_participant,
)
from app.livekit.twirp import (
    Absent,
    NoDataChannel,
    NoSuchCall,
    RpcFailed,
    RpcRoomService,
    existed,
    translated,
)
from app.state.presence import Participant, ParticipantKind

#: LiveKit removes a responsive participant within milliseconds.
_REMOVE_TIMEOUT_S = 1.5
_RUNNING = (JobStatus.JS_PENDING, JobStatus.JS_RUNNING)
#: No room has this name: it is not one of the rooms that LiveKit has at the time.
_NOBODYS_ROOM = "agent-lifecycle: nobody's room"
#: RPC errors that a living process sends: unsupported method, application error.
_ALIVE_CODES = frozenset({"1400", "1500"})


class LiveKitClient:
    """`LiveKit` over livekit-api."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keypair: Keypair, clock: Clock) -> None:
        # Without failover: it silently repeats a request in another region, and an act must happen once.
        arguments = (session, url, keypair.key, keypair.secret, False)
        self._rooms = RpcRoomService(*arguments)
        self._dispatches = AgentDispatchService(*arguments)
        self._clock = clock
        self._ahead_us = 0
        # A trace, because livekit-api does not return the headers of an answer.
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._read_time)
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
        # Every room has a dispatch without an agent name from its creation; it is ignored.
        return tuple(_dispatch(dispatch) for dispatch in listed if dispatch.agent_name)

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        gone = ParticipantInfo.State.DISCONNECTED
        return tuple(participant_of(p) for p in await self._listed(room_name) if p.state != gone)

    async def list_people(self, room_name: str) -> frozenset[str]:
        return frozenset(
            p.identity
            for p in await self._listed(room_name)
            if p.state == ParticipantInfo.State.ACTIVE and participant_of(p).kind is ParticipantKind.PERSON
        )

    async def _listed(self, room_name: str) -> Iterable[ParticipantInfo]:
        async with translated():
            answer = await self._rooms.list_participants(api.ListParticipantsRequest(room=room_name))
        return answer.participants

    async def create_dispatch(
        self, room_name: str, agent_name: str, row_id: str, briefing: Briefing
    ) -> ListedDispatch:
        attributes = msgspec.json.decode(briefing.attributes or "{}", type=dict[str, str])
        request = api.CreateAgentDispatchRequest(
            room=room_name,
            agent_name=agent_name,
            metadata=briefing.metadata,
            attributes=attributes | {ROW_ID_ATTRIBUTE: row_id},
            deployment=briefing.deployment,
            restart_policy=JobRestartPolicy.JRP_NEVER,
        )
        async with translated():
            return _dispatch(await self._dispatches.create_dispatch(request))

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> bool:
        return await existed(self._dispatches.delete_dispatch(dispatch_id, room_name))

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        request = api.RoomParticipantIdentity(room=room_name, identity=identity)
        try:
            return await existed(self._rooms.remove_participant(request), _REMOVE_TIMEOUT_S)
        except LiveKitTimeout:
            # A participant that is just leaving is still found but no longer answers, and LiveKit retries
            # for up to 15 s (livekit-server 1.13.5, service/roomservice.go; psrpc's retries).
            if any(info.identity == identity for info in await self._listed(room_name)):
                raise
            return True

    async def delete_room(self, room_name: str) -> bool:
        """Close a room, even with participants in it; False if it does not exist."""
        return await existed(self._rooms.delete_room(api.DeleteRoomRequest(room=room_name)))

    async def _read_time(
        self, _session: aiohttp.ClientSession, _context: object, end: aiohttp.TraceRequestEndParams
    ) -> None:
        """Read the time of LiveKit, or of a proxy in front of it, from an answer's Date (whole seconds)."""
        date_at = _time_of(end.response.headers.get("Date"))
        if date_at is not None and "/twirp/" in end.url.path:
            self._ahead_us = date_at - self._clock.now()

    async def can_probe(self) -> bool:
        try:
            async with translated():
                # Without an identity it is rejected at once, and LiveKit's log says nothing of it.
                await self._rooms.perform_rpc(_NOBODYS_ROOM, "", HEALTH_METHOD)
        except NoSuchCall:
            return False
        except (LiveKitUnreachable, LiveKitTimeout):
            raise
        except (LiveKitUnavailable, LiveKitRefused, NoDataChannel, RpcFailed):
            return True
        return True

    async def probe(self, room_name: str, identity: str) -> Probe:
        try:
            async with translated():
                payload = await self._rooms.perform_rpc(room_name, identity, HEALTH_METHOD)
        except NoDataChannel:
            return Probe.CONNECTING
        except RpcFailed as failure:
            return Probe.ALIVE if failure.rpc_code in _ALIVE_CODES else Probe.SILENT
        except NoSuchCall:
            return Probe.UNSUPPORTED
        except Absent:
            # The agent left during the call. For one that was never in the room, LiveKit reports a timeout.
            return Probe.SILENT
        return _probe_of(payload)


def _time_of(date: str | None) -> int | None:
    try:
        return round(parsedate_to_datetime(date).timestamp()) * SECOND_US if date else None
    except ValueError:
        return None


def participant_of(info: ParticipantInfo) -> Participant:
    kinds = ParticipantInfo.Kind
    # A newer LiveKit has kinds that this version of the protocol cannot name.
    kind = kinds.Name(info.kind) if info.kind in kinds.values() else str(info.kind)
    return make_participant(
        info.sid, info.identity, kind, info.attributes, info.joined_at_ms, info.permission
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
        briefing=briefing_of(message),
        row_id=message.attributes.get(ROW_ID_ATTRIBUTE),
        agent_identities=tuple(
            job.state.participant_identity or f"agent-{job.id}"
            for job in message.state.jobs
            if job.state.status in _RUNNING
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
