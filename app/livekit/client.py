"""The LiveKit client: livekit-api with the missing RPC call and errors that state what is known."""

from collections.abc import Iterable
from typing import Any

import aiohttp
import msgspec
from livekit import api
from livekit.protocol.agent import JobStatus
from livekit.protocol.agent_dispatch import JobRestartPolicy
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.models import Room as RoomMessage

from app.clock import Clock
from app.config.settings import Keypair
from app.errors import LiveKitTimeout
from app.lifecycle import SECOND_US, Briefing
from app.livekit.answers import ANSWER_LIMIT, NotLiveKit
from app.livekit.interface import (
    CLAIM_METHOD,
    CLAIMED,
    HEALTH_METHOD,
    ROW_ID_ATTRIBUTE,
    WARNING_METHOD,
    ClaimAnswer,
    Hearing,
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
    StrictClient,
    StrictDispatchService,
    existed,
    translated,
)
from app.state.presence import Participant, ParticipantKind

#: LiveKit does either within milliseconds to one that responds. A call for an agent waits for the second.
_REMOVE_TIMEOUT_S, _ANNOUNCE_TIMEOUT_S = 1.5, 0.5
_RUNNING = (JobStatus.JS_PENDING, JobStatus.JS_RUNNING)
#: No room has this name: it is not one of the rooms that LiveKit has at the time.
_NOBODYS_ROOM = "agent-lifecycle: nobody's room"
#: RPC errors that a living process sends.
_UNSUPPORTED_METHOD, _APPLICATION_ERROR = "1400", "1500"
_ALIVE_CODES = frozenset({_UNSUPPORTED_METHOD, _APPLICATION_ERROR})
#: For the agent to connect to another room.
_CLAIM_TIMEOUT_MS = 3_000
_YEAR_10000_AT = 253_402_300_800 * SECOND_US


class LiveKitClient:
    """`LiveKit` over livekit-api."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        keypair: Keypair,
        clock: Clock,
        *,
        answer_limit: int = ANSWER_LIMIT,
    ) -> None:
        """`answer_limit`: bytes of an answer, decompressed; a larger one counts as none."""
        self._client = StrictClient(session, url, clock, answer_limit)
        self._rooms = RpcRoomService(self._client, session, keypair)
        self._dispatches = StrictDispatchService(self._client, session, keypair)

    def now(self) -> int:
        return self._client.now()

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
        async with translated():
            return tuple(participant_of(p) for p in await self._listed(room_name) if p.state != gone)

    async def list_people(self, room_name: str) -> frozenset[str]:
        async with translated():
            return frozenset(
                p.identity
                for p in await self._listed(room_name)
                if p.state == ParticipantInfo.State.ACTIVE
                and participant_of(p).kind is ParticipantKind.PERSON
            )

    async def _listed(self, room_name: str) -> Iterable[ParticipantInfo]:
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
            async with translated():
                present = await self._listed(room_name)
            named = [participant_of(info) for info in present if info.identity == identity]
            if any(one.kind is not ParticipantKind.PERSON for one in named):
                raise
            return True

    async def announce(self, room_name: str, identity: str) -> bool:
        # LiveKit tells of attributes that stay as they are, too (1.13.5, rtc/participant.go, SetAttributes).
        request = api.UpdateParticipantRequest(room=room_name, identity=identity, attributes=CLAIMED)
        return await existed(self._rooms.update_participant(request), _ANNOUNCE_TIMEOUT_S)

    async def delete_room(self, room_name: str) -> bool:
        return await existed(self._rooms.delete_room(api.DeleteRoomRequest(room=room_name)))

    async def can_probe(self) -> bool:
        async with translated():
            try:
                # Without an identity it is rejected at once, and LiveKit's log says nothing of it.
                await self._rooms.perform_rpc(_NOBODYS_ROOM, "", HEALTH_METHOD)
            except api.TwirpError as error:
                return error.code != api.TwirpErrorCode.BAD_ROUTE
            except (NoDataChannel, RpcFailed):
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

    async def warn(self, room_name: str, identity: str, warning: str) -> Hearing:
        try:
            async with translated():
                await self._rooms.perform_rpc(room_name, identity, WARNING_METHOD, warning)
        except RpcFailed as failure:
            if failure.rpc_code == _UNSUPPORTED_METHOD:
                return Hearing.UNKNOWN
            # A method that raises has been called.
            return Hearing.HEARD if failure.rpc_code == _APPLICATION_ERROR else Hearing.SILENT
        except (NoDataChannel, Absent):
            return Hearing.SILENT
        except NoSuchCall:
            return Hearing.UNSUPPORTED
        return Hearing.HEARD

    async def claim(self, room_name: str, identity: str, claim: str) -> ClaimAnswer:
        try:
            async with translated():
                payload = await self._rooms.perform_rpc(
                    room_name, identity, CLAIM_METHOD, claim, timeout_ms=_CLAIM_TIMEOUT_MS
                )
        except NoDataChannel:
            return ClaimAnswer.SILENT
        except RpcFailed as failure:
            if failure.rpc_code == _UNSUPPORTED_METHOD:
                return ClaimAnswer.UNKNOWN
            # Codes of this length are LiveKit's own; shorter ones are the agent's.
            is_own = len(failure.rpc_code) < len(_APPLICATION_ERROR)
            return (
                ClaimAnswer.REFUSED
                if is_own or failure.rpc_code == _APPLICATION_ERROR
                else ClaimAnswer.SILENT
            )
        except NoSuchCall:
            return ClaimAnswer.UNSUPPORTED
        except Absent:
            return ClaimAnswer.SILENT
        return ClaimAnswer.CLAIMED if _is_claimed(payload) else ClaimAnswer.REFUSED


def participant_of(info: ParticipantInfo) -> Participant:
    kinds = ParticipantInfo.Kind
    # A newer LiveKit has kinds that this version of the protocol cannot name.
    kind = kinds.Name(info.kind) if info.kind in kinds.values() else str(info.kind)
    return make_participant(
        info.sid,
        info.identity,
        kind,
        info.attributes,
        _checked_time(info.joined_at_ms * 1_000 or info.joined_at * SECOND_US) // 1_000,
        info.permission,
    )


def _room(message: RoomMessage) -> RoomInfo:
    if not (message.name and message.sid):
        raise NotLiveKit("a room without name or SID")
    return RoomInfo(
        name=message.name,
        sid=message.sid,
        created_at=_checked_time(message.creation_time_ms * 1_000 or message.creation_time * SECOND_US),
        departure_timeout_s=message.departure_timeout,
        participant_count=message.num_participants,
    )


def _dispatch(message: Any) -> ListedDispatch:
    if not message.id:
        raise NotLiveKit("a dispatch without id")
    return ListedDispatch(
        id=message.id,
        agent_name=message.agent_name,
        created_at=_checked_time(message.state.created_at // 1_000),
        briefing=briefing_of(message),
        row_id=message.attributes.get(ROW_ID_ATTRIBUTE),
        agent_identities=tuple(
            job.state.participant_identity or f"agent-{job.id}"
            for job in message.state.jobs
            if job.state.status in _RUNNING
        ),
    )


def _checked_time(at: int) -> int:
    """The time, which the tables can hold and a calendar can show."""
    if not 0 <= at < _YEAR_10000_AT:
        raise NotLiveKit("a time that no clock shows")
    return at


def _probe_of(payload: str) -> Probe:
    try:
        health = msgspec.json.decode(payload, type=_Health)
    except (ValueError, RecursionError):
        return Probe.ALIVE
    if health.session == "closed":
        return Probe.CLOSED
    if health.session == "waiting":
        return Probe.WAITING
    return Probe.OPEN if health.ready else Probe.STARTING


class _Health(msgspec.Struct):
    session: str
    #: Older helpers do not say.
    ready: bool = True


def _is_claimed(payload: str) -> bool:
    try:
        return msgspec.json.decode(payload, type=_Claimed).claimed
    except (ValueError, RecursionError):
        return False


class _Claimed(msgspec.Struct):
    claimed: bool
