"""LiveKit's Twirp API: strict about answers, with the RPC call that livekit-api lacks, and its own errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from google.protobuf.message import Message
from livekit import api
from livekit.api.agent_dispatch_service import AgentDispatchService
from livekit.api.room_service import RoomService
from livekit.api.twirp_client import TwirpClient
from livekit.protocol.room import PerformRpcRequest, PerformRpcResponse

from app.clock import Clock
from app.config.settings import Keypair
from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable
from app.lifecycle import SECOND_US
from app.livekit.answers import AnswerTooLarge, NotLiveKit, message_of, read_within, time_of
from app.livekit.token_reuse import TokenReuse

M = TypeVar("M", bound=Message)

CALL_TIMEOUT_S = 4.5
_PROBE_TIMEOUT_MS = 2_000
#: How far apart LiveKit's clock and ours may be.
_FURTHEST_APART_US = 86_400 * SECOND_US
_RPC_ERROR = re.compile(r"RpcError (\d{1,9})")


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


#: Not rejected, but given up in LiveKit, or put off: timeout, too many requests.
_UNDECIDED = (408, 429)
_REFUSALS = {"not_found": Absent, "bad_route": NoSuchCall}


class StrictClient(TwirpClient):
    """livekit-api's client, but it sends a request once, and takes nothing that LiveKit does not send."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        clock: Clock,
        answer_limit: int,
    ) -> None:
        # Without failover: it silently repeats a request in another region, and an act must happen once.
        super().__init__(session, url, "livekit", failover=False)
        self.clock = clock
        self._answer_limit = answer_limit
        self._ahead_us = 0

    def now(self) -> int:
        """LiveKit's time, or that of a proxy in front of it, by the Date of its last answer."""
        return self.clock.now() + self._ahead_us

    async def request(
        self,
        service: str,
        method: str,
        data: Message,
        headers: dict[str, str],
        response_class: type[M],
        *,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - as livekit-api has it
    ) -> M:
        """Make one call.

        Raises:
            api.TwirpError: LiveKit rejected it.
            NotLiveKit: something else answered.
            aiohttp.ClientError: there is no answer, or it is too large.
        """
        async with self._session.post(
            f"{self.host}/{self.prefix}/{self.pkg}.{service}/{method}",
            data=data.SerializeToString(),
            headers={**headers, "Content-Type": "application/protobuf"},
            timeout=timeout,
            # LiveKit never redirects: whoever does would get the request, and answer in LiveKit's place.
            allow_redirects=False,
        ) as response:
            arrived_at = self.clock.now()
            answer = message_of(response, await read_within(response, self._answer_limit), response_class)
        date_at = time_of(response.headers.get("Date"))
        # Further apart, LiveKit would have rejected the token for its time.
        if date_at is not None and abs(date_at - arrived_at) <= _FURTHEST_APART_US:
            self._ahead_us = date_at - arrived_at
        if isinstance(answer, api.TwirpError):
            raise answer
        return answer


class StrictDispatchService(TokenReuse, AgentDispatchService):
    """livekit-api's dispatch service over a given client."""

    def __init__(self, client: StrictClient, session: aiohttp.ClientSession, keypair: Keypair) -> None:
        super().__init__(session, client.host, keypair.key, keypair.secret)
        self._client = client
        self.reuse_tokens()


class RpcRoomService(TokenReuse, RoomService):
    """livekit-api's room service over a given client, with the RPC call that it lacks."""

    def __init__(self, client: StrictClient, session: aiohttp.ClientSession, keypair: Keypair) -> None:
        super().__init__(session, client.host, keypair.key, keypair.secret)
        self._client = client
        self.reuse_tokens()

    async def perform_rpc(
        self,
        room_name: str,
        identity: str,
        method: str,
        payload: str = "",
        *,
        timeout_ms: int = _PROBE_TIMEOUT_MS,
    ) -> str:
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
            payload=payload,
            response_timeout_ms=timeout_ms,
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
        text: str = answer.payload
        return text


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
    except AnswerTooLarge as error:
        raise LiveKitUnavailable("LiveKit's answer is too large") from error
    except NotLiveKit as error:
        raise LiveKitUnavailable(f"Something else than LiveKit answered at its address: {error}") from error
    except aiohttp.ClientError as error:
        raise LiveKitUnavailable(f"LiveKit is not reachable ({type(error).__name__})") from error
    except api.TwirpError as error:
        if error.status in (401, 403):
            raise LiveKitRefused("LiveKit rejected the API key and secret") from error
        if error.status in _UNDECIDED or error.status >= 500:  # noqa: PLR2004 - HTTP's own number
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
