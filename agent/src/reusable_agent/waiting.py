"""A warm agent: waits in a holding room, without a session, until the service assigns it to a room."""

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jwt
from livekit import rtc
from livekit.agents import JobContext

from reusable_agent.assignment import Assignment
from reusable_agent.presence import (
    DISPATCH_ATTRIBUTE,
    HEALTH_METHOD,
    WARM_ATTRIBUTE,
    Presence,
    publish,
)

CLAIM_METHOD = "agent-lifecycle.claim"
#: The service's warm agents are in rooms of such names. Older LiveKit servers drop a dispatch's attributes.
HOLDING_ROOM_PREFIX = "agent-warm."

_MALFORMED, _NOT_ALLOWED, _TAKEN, _GONE, _FAILED = 400, 403, 409, 410, 500

_ANSWERED_WITHIN_S = 1.0
#: For the answer to a claim to go out: the session's start keeps this thread busy for some 20 ms.
_ANSWERS_FIRST_S = 0.001

_log = logging.getLogger(__name__)


class NotAssignedError(Exception):
    """The job of a warm agent has ended before anybody needed the agent. Nothing has failed."""


def is_warm(ctx: JobContext) -> bool:
    return ctx.job.room.name.startswith(HOLDING_ROOM_PREFIX)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The service's request that a warm agent goes into a person's room."""

    id: str
    room: str
    token: str
    metadata: str
    attributes: Mapping[str, str]

    @classmethod
    def parse(cls, payload: str) -> Self:
        """Read a claim; what is not known in it is ignored.

        Raises:
            rtc.RpcError: it is malformed.
        """
        try:
            told = json.loads(payload)
            return cls(
                id=str(told["claim"]),
                room=str(told["room"]),
                token=str(told["token"]),
                metadata=str(told.get("metadata") or ""),
                attributes={str(name): str(value) for name, value in (told.get("attributes") or {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            # The payload has a token: not even a part of it goes into an answer or a log.
            raise rtc.RpcError(_MALFORMED, "the claim is malformed") from None

    def is_for_agent(self, identity: str) -> bool:
        """Whether its token is one for this agent, in this room. Its signature is for LiveKit to check.

        A token that people have, for whatever room, does not call an agent into that room.
        """
        try:
            told = jwt.decode(self.token, options={"verify_signature": False})
            grants = told["video"]
            return bool(told["sub"] == identity and grants["agent"] is True and grants["room"] == self.room)
        except (jwt.InvalidTokenError, KeyError, TypeError):
            return False


class Waiting:
    """Takes the service's claim in the holding room, and enters the person's room.

    `presence` belongs to the person's room; it answers there from the moment the agent is in.
    """

    def __init__(self, ctx: JobContext, room: rtc.Room, presence: Presence) -> None:
        """`room` is the future session's room, not connected yet."""
        loop = asyncio.get_running_loop()
        self._ctx = ctx
        self._room = room
        self._presence = presence
        self._claim: asyncio.Future[Claim] = loop.create_future()
        self._entered: asyncio.Future[None] = loop.create_future()
        self._end = _end_of(ctx)
        #: Kept, so that it is not lost half-way.
        self._news: asyncio.Task[None] | None = None

    async def until_assigned(self) -> Assignment:
        """Wait for the claim, and connect to the person's room.

        Raises:
            NotAssignedError: the job has ended before.
            rtc.ConnectError: the room of the claim cannot be entered; the agent is of no use any more.
        """
        await _to_its_end(self._ctx.connect())
        me = self._ctx.room.local_participant
        me.register_rpc_method(HEALTH_METHOD, self._health)
        me.register_rpc_method(CLAIM_METHOD, self._take)
        about = {DISPATCH_ATTRIBUTE: self._ctx.job.dispatch_id, WARM_ATTRIBUTE: "waiting"}
        introduction = asyncio.create_task(publish(self._ctx.room, about))
        try:
            await asyncio.wait({self._claim, self._end}, return_when=asyncio.FIRST_COMPLETED)
            self._give_up_if_ended()
            claim = self._claim.result()
            await self._enter(claim)
        finally:
            introduction.cancel()
        await asyncio.sleep(_ANSWERS_FIRST_S)
        self._news = asyncio.create_task(publish(self._ctx.room, {WARM_ATTRIBUTE: "claimed"}))
        return Assignment(room=self._room, metadata=claim.metadata, attributes=claim.attributes, is_warm=True)

    async def _enter(self, claim: Claim) -> None:
        try:
            await _to_its_end(self._room.connect(self._ctx._info.url, claim.token))  # noqa: SLF001 - as ctx.connect
            if self._end.done():
                # The service has given this claim up: another agent is on its way.
                await self._room.disconnect()
            self._give_up_if_ended()
        except Exception as error:
            # LiveKit repeats a token that it rejects.
            reason = str(error).replace(claim.token, "...")
            self._entered.set_exception(rtc.RpcError(_FAILED, f"could not enter the room: {reason}"))
            # Nobody may be waiting for the answer any more.
            self._entered.exception()
            # livekit-agents leaves the holding room as soon as this raises, and the answer would be lost.
            await asyncio.wait({self._end}, timeout=_ANSWERED_WITHIN_S)
            if isinstance(error, NotAssignedError):
                raise
            # Not with its cause: livekit-agents logs it, and it has the token.
            raise rtc.ConnectError(f"could not enter the room: {reason}") from None
        self._presence.open()
        self._entered.set_result(None)
        _log.info("the warm agent has entered the room %s", claim.room)

    def _give_up_if_ended(self) -> None:
        if self._end.done():
            _log.info("the warm agent ends: nobody has needed it")
            logging.getLogger("livekit.agents").addFilter(_is_worth_a_line)
            raise NotAssignedError("the job has ended")

    def _health(self, data: rtc.RpcInvocationData) -> str:
        if self._entered.done():
            return self._presence.answer(data)
        return json.dumps({"session": "waiting", "ready": True})

    async def _take(self, data: rtc.RpcInvocationData) -> str:
        # Anybody in the room could call the method. A call by the service comes from LiveKit itself.
        if data.caller_identity in self._ctx.room.remote_participants:
            raise rtc.RpcError(_NOT_ALLOWED, "only the agent lifecycle service claims")
        claim = Claim.parse(data.payload)
        if not claim.is_for_agent(self._ctx.room.local_participant.identity):
            raise rtc.RpcError(_NOT_ALLOWED, "the token is not for this agent in this room")
        if not self._claim.done() and not self._end.done():
            self._claim.set_result(claim)
        if self._claim.done() and self._claim.result().id != claim.id:
            raise rtc.RpcError(_TAKEN, "claimed before")
        # A claim whose answer was lost is asked again: it gets the same one.
        await asyncio.wait({self._entered, self._end}, return_when=asyncio.FIRST_COMPLETED)
        if self._end.done():
            raise rtc.RpcError(_GONE, "the job is shutting down")
        self._entered.result()
        return json.dumps({"claimed": True})


def _end_of(ctx: JobContext) -> asyncio.Future[Any]:
    """Done once the job is told to end, whoever tells it.

    livekit-agents 1.8.9 tells nothing to an entrypoint that still runs, and cancels it 15 s later. So this is
    its own future, found where it hides; without it the agent stays those 15 s.
    """
    told = getattr(ctx, "_on_shutdown", None)
    runner = inspect.getclosurevars(told).nonlocals.get("self") if inspect.isfunction(told) else None
    found = getattr(runner, "_shutdown_fut", None)
    if isinstance(found, asyncio.Future):
        return found
    end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_disconnected(*_: object) -> None:
        if not end.done():
            end.set_result(None)

    ctx.room.on("disconnected", on_disconnected)
    return end


async def _to_its_end(connecting: Coroutine[Any, Any, None]) -> None:
    """Connect, and if this is cancelled meanwhile, end only once that has succeeded or failed.

    livekit-rtc 1.1.21 ends its process 15 s after a connection was cancelled half-way.
    """
    task = asyncio.create_task(connecting)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """False for what livekit-agents logs as an unhandled exception each time a warm agent is not needed."""
    return not (record.exc_info and isinstance(record.exc_info[1], NotAssignedError))
