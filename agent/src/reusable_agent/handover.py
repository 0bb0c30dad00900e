"""The hand-over of a conversation from an agent whose worker is emptied to the agent that takes over."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Collection
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, JobContext

from reusable_agent.announcement import announced
from reusable_agent.chat import Chat
from reusable_agent.farewell import Farewell
from reusable_agent.recorder import Recorder

HAND_OVER_METHOD = "agent-lifecycle.hand_over"
#: On the dispatch of an agent that takes over: the identity of the one that still answers.
RELIEVES_ATTRIBUTE = "agent-lifecycle.relieves"

#: What is being said is finished within this time, or cut off.
_FINISHES_WITHIN_S = 10.0
_ANSWERS_WITHIN_S = 15.0
#: From the last sound until the turn is over: the longest endpointing delay is 3 s, the usual one 0.5 s.
_TURN_ENDS_WITHIN_S = 1.0
_CUT_OFF_WITHIN_S = 1.0
#: A process that has died is in the room for a while.
_REACHED_WITHIN_S = 5.0
#: From the answer until the agent leaves, so that the answer is out before.
_LEAVES_AFTER_S = 1.0
#: A single call can be lost.
_TRIES = 2
_GONE = (
    rtc.RpcError.ErrorCode.RECIPIENT_NOT_FOUND,
    rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED,
    rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD,
)
_NOT_ALLOWED = 403

_log = logging.getLogger(__name__)


class HandOver:
    """Lets another agent of the same name take over: this one finishes its sentence, and answers no more."""

    def __init__(
        self,
        session: AgentSession[Any],
        room: rtc.Room,
        chat: Chat,
        farewell: Farewell,
        recorder: Recorder | None,
    ) -> None:
        self._session = session
        self._room = room
        self._chat = chat
        self._farewell = farewell
        self._recorder = recorder
        self._giving: asyncio.Task[str] | None = None

    def open(self) -> None:
        """Accept the call of a successor from now on: the session has started."""
        self._room.local_participant.register_rpc_method(HAND_OVER_METHOD, self._take)

    async def _take(self, data: rtc.RpcInvocationData) -> str:
        if not await self._is_agent(data.caller_identity):
            raise rtc.RpcError(_NOT_ALLOWED, "only another agent takes over")
        # A successor whose answer was lost asks again.
        self._giving = self._giving or asyncio.get_running_loop().create_task(self._give())
        return await asyncio.shield(self._giving)

    async def _is_agent(self, identity: str) -> bool:
        """Only LiveKit's server, and whoever has its key, can make a participant an agent."""
        try:
            caller = await announced(self._room, identity)
        except (TimeoutError, RuntimeError):
            return False
        return caller.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT

    async def _give(self) -> str:
        self._chat.stop()
        try:
            try:
                async with asyncio.timeout(_FINISHES_WITHIN_S):
                    await self._finish()
            except TimeoutError:
                _log.info("what is being said, or waits to be answered, is left to the next agent")
            except Exception:  # noqa: BLE001 - whatever a plugin raises, another agent waits
                _log.warning("could not finish before the hand-over", exc_info=True)
            # Before it is cut off: what has not been answered is the next one's.
            taken = self._chat.taken()
            await self._be_silent()
            if self._recorder:
                await self._recorder.hand_over()
        finally:
            # An agent that hears no more must not stay.
            asyncio.get_running_loop().call_later(_LEAVES_AFTER_S, self._farewell.hand_over)
        _log.info("another agent takes over; this one leaves")
        return json.dumps({"taken": taken})

    async def _finish(self) -> None:
        """Hear whoever is speaking, and answer all that was said and written."""
        await self._until_nobody_speaks()
        self._session.input.set_audio_enabled(False)
        await self._chat.finish()
        while True:
            with contextlib.suppress(RuntimeError):
                # It has closed already.
                await self._session.drain()
            # A tool has handed over to another Agent of this session meanwhile, which begins to speak.
            update = getattr(self._session, "_update_activity_atask", None)
            if not isinstance(update, asyncio.Task) or update.done():
                return
            await asyncio.wait({update})

    async def _until_nobody_speaks(self) -> None:
        """A sentence that is cut off is heard by neither agent."""
        silent = asyncio.Event()

        def on_state(_: object) -> None:
            if self._session.user_state != "speaking":
                silent.set()

        self._session.on("user_state_changed", on_state)
        try:
            if self._session.user_state == "speaking":
                await silent.wait()
                # Its turn ends a moment later, and brings the answer.
                await asyncio.sleep(_TURN_ENDS_WITHIN_S)
        finally:
            self._session.off("user_state_changed", on_state)

    async def _be_silent(self) -> None:
        """Say and hear nothing more, whatever was under way."""
        self._session.input.set_audio_enabled(False)
        with contextlib.suppress(RuntimeError, TimeoutError):
            async with asyncio.timeout(_CUT_OFF_WITHIN_S):
                await self._session.interrupt(force=True)


async def take_over(ctx: JobContext, room: rtc.Room) -> Collection[str]:
    """If this agent takes over from another one, wait until that one answers no more.

    Returns the ids of the texts that the other one has answered.
    """
    former = ctx.job.attributes.get(RELIEVES_ATTRIBUTE)
    if former:
        await ctx.connect()
    for _ in range(_TRIES):
        # LiveKit reports an agent that is not there only as one that does not answer.
        if former is None or former not in room.remote_participants:
            break
        try:
            answer = await room.local_participant.perform_rpc(
                destination_identity=former,
                method=HAND_OVER_METHOD,
                payload="{}",
                response_timeout=_ANSWERS_WITHIN_S,
                max_round_trip_latency=_REACHED_WITHIN_S,
            )
            return _taken_of(answer)
        except rtc.RpcError as error:
            if error.code in _GONE:
                break
            _log.warning("the agent before did not hand over: %s", error)
    return ()


def _taken_of(answer: str) -> Collection[str]:
    try:
        return frozenset(json.loads(answer)["taken"])
    except (ValueError, TypeError, KeyError):
        _log.warning("the agent before has answered in a way that this version does not know")
        return ()
