"""Typed text: whatever anybody in the room writes on `lk.chat` is answered."""

import asyncio
import contextlib
import inspect
import logging
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, room_io, utils
from livekit.agents.types import TOPIC_CHAT

from reusable_agent.audience import Audience
from reusable_agent.options import Terms

# Someone who publishes nothing is announced to the others in batches, up to 3 s after the fact.
_ANNOUNCE_TIMEOUT_S = 6.0

_log = logging.getLogger(__name__)


class Chat:
    """Answers in place of RoomIO's own chat input, which hears only the one participant it is linked to."""

    def __init__(self, session: AgentSession[Any], room: rtc.Room, terms: Terms, audience: Audience) -> None:
        self._session = session
        self._room = room
        self._terms = terms
        self._audience = audience
        self._started = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Take texts from now on; they are kept until `ready`, so that none written early is lost."""
        try:
            self._room.register_text_stream_handler(TOPIC_CHAT, self._on_stream)
        except ValueError:
            _log.warning("this room has a handler for %s already, which goes on answering it", TOPIC_CHAT)

    def ready(self) -> None:
        """The session has started: answer."""
        self._started.set()

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self._room.unregister_text_stream_handler(TOPIC_CHAT)
        for task in self._tasks:
            task.cancel()

    def _on_stream(self, reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.get_running_loop().create_task(self._take(reader, identity))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, reader: rtc.TextStreamReader, identity: str) -> None:
        try:
            text = await reader.read_all()
            await self._started.wait()
            sender = await self._sender(identity)
            if self._audience.is_person(sender):
                await self._answer(room_io.TextInputEvent(text=text, info=reader.info, participant=sender))
        except TimeoutError:
            _log.warning("a text of someone who is not in the room is left unanswered")
        except Exception:  # noqa: BLE001 - a caller's callback may raise; the next text is still to be answered
            _log.exception("a text could not be answered")

    async def _sender(self, identity: str) -> rtc.RemoteParticipant:
        known = self._room.remote_participants.get(identity)
        if known is not None:
            return known
        # Nobody would read an answer given before RoomIO knows of a first person.
        async with asyncio.timeout(_ANNOUNCE_TIMEOUT_S):
            return await utils.wait_for_participant(self._room, identity=identity)

    async def _answer(self, event: room_io.TextInputEvent) -> None:
        if self._terms.on_text is not None:
            result = self._terms.on_text(self._session, event)
            if inspect.isawaitable(result):
                await result
            return
        self._session.reset_away_timer()
        if len(self._audience.people()) <= 1:
            # As without this package: who writes again does not want to hear the old answer out. Among
            # several people one must not cut off the answer to another, so their questions queue up.
            with contextlib.suppress(RuntimeError):
                await self._session.interrupt()
        self._session.generate_reply(user_input=event.text)
