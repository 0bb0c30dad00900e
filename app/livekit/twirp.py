"""LiveKit's Twirp API: the RPC call that livekit-api lacks, and the translation of errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiohttp
from livekit import api
from livekit.api.room_service import RoomService
from livekit.protocol.room import PerformRpcRequest, PerformRpcResponse

from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable

CALL_TIMEOUT_S = 4.5
_PROBE_TIMEOUT_MS = 2_000
_RPC_ERROR = re.compile(r"RpcError (\d{4})")


class Absent(LiveKitRefused):
    """LiveKit does not have the room, the dispatch or the participant."""


class NoSuchCall(LiveKitRefused):
    """This version of LiveKit does not have the call."""


class NoDataChannel(Exception):
    """The participant's data channel is not open: it has just joined, or it froze while joining."""


class RpcFailed(Exception):
    def __init__(self, rpc_code: str) -> None:
        super().__init__(rpc_code)
        self.rpc_code = rpc_code


_REFUSALS = {"not_found": Absent, "bad_route": NoSuchCall}


class RpcRoomService(RoomService):
    """livekit-api's room service with the RPC call that it lacks."""

    async def perform_rpc(self, room_name: str, identity: str, method: str) -> str:
        """Call a method of a participant and return its answer.

        Raises:
            NoDataChannel: a 500 internal of livekit-server 1.13.5.
            RpcFailed: the participant did not answer, or does not know the method
                (1400 unsupported method, 1501 connection timeout, 1502 response timeout).
        """
        request = PerformRpcRequest(
            room=room_name,
            destination_identity=identity,
            method=method,
            payload="",
            response_timeout_ms=_PROBE_TIMEOUT_MS,
        )
        grants = api.VideoGrants(room_admin=True, room=room_name)
        try:
            answer: PerformRpcResponse = await self._client.request(
                "RoomService", "PerformRpc", request, self._auth_header(grants), PerformRpcResponse
            )
        except api.TwirpError as error:
            if "data channel is not available" in error.message:
                raise NoDataChannel from error
            code = _RPC_ERROR.search(error.message)
            if code is None:
                raise
            raise RpcFailed(code[1]) from error
        payload: str = answer.payload
        return payload


@asynccontextmanager
async def translated(timeout_s: float = CALL_TIMEOUT_S) -> AsyncIterator[None]:
    """Translate errors of a call: LiveKitRefused if LiveKit rejected it, else LiveKitUnavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise LiveKitTimeout(f"LiveKit did not answer within {timeout_s} s") from error
    except aiohttp.ClientConnectorError as error:
        raise LiveKitUnreachable("LiveKit is not reachable") from error
    except aiohttp.ClientError as error:
        raise LiveKitUnavailable(f"LiveKit is not reachable ({type(error).__name__})") from error
    except api.TwirpError as error:
        if error.status in (401, 403):
            raise LiveKitRefused("LiveKit rejected the API key and secret") from error
        if error.status == 429 or error.status >= 500:  # noqa: PLR2004 - HTTP's own numbers
            raise LiveKitUnavailable(f"LiveKit answered {error.status} {error.code}") from error
        refused = _REFUSALS.get(error.code, LiveKitRefused)
        raise refused(f"LiveKit rejected the call: {error.code}") from error


async def existed(call: Awaitable[object], timeout_s: float = CALL_TIMEOUT_S) -> bool:
    """Make a call that ends something; False if LiveKit did not have it."""
    try:
        async with translated(timeout_s):
            await call
    except Absent:
        return False
    return True
