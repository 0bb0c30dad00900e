"""Chat input: answers what anybody in the room writes on `lk.chat`."""

import asyncio
import collections
import contextlib
import inspect
import logging
from collections.abc import Collection
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import AgentSession, room_io
from livekit.agents.types import TOPIC_CHAT

from reusable_agent.announcement import announced
from reusable_agent.audience import Audience
from reusable_agent.options import Terms

#: How many texts an agent that hands over may have taken while its successor was in the room.
_REMEMBERED = 200


class _Answer(Protocol):
    """A SpeechHandle, as far as it is used here."""

    def done(self) -> bool: ...


class _Called:
    """Of a text that the caller's own callback has handled."""

    def done(self) -> bool:
        return True


_CALLED = _Called()

_log = logging.getLogger(__name__)


class Chat:
    """Replaces RoomIO's chat input, which reads only the one participant it is linked to."""

    def __init__(self, session: AgentSession[Any], room: rtc.Room, terms: Terms, audience: Audience) -> None:
        self._session = session
        self._room = room
        self._terms = terms
        self._audience = audience
        self._started = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        #: The texts that were accepted, by id; None: not handed to the session yet, or its callback runs.
        self._taken: collections.OrderedDict[str, _Answer | None] = collections.OrderedDict()
        self._skipped: Collection[str] = ()

    def open(self) -> None:
        """Accept texts from now on; early ones are kept until `ready`, so that none is lost."""
        try:
            self._room.register_text_stream_handler(TOPIC_CHAT, self._on_stream)
        except ValueError:
            _log.warning("this room already has a handler for %s, which stays in place", TOPIC_CHAT)

    def ready(self) -> None:
        """Begin to answer: the session has started."""
        self._started.set()

    def skip(self, taken: Collection[str]) -> None:
        """Leave these texts alone: another agent has answered them."""
        self._skipped = taken

    def stop(self) -> None:
        """Accept no more texts."""
        with contextlib.suppress(ValueError):
            self._room.unregister_text_stream_handler(TOPIC_CHAT)

    def taken(self) -> list[str]:
        """The ids of the last texts that were answered, or are being answered now."""
        current = self._session.current_speech
        return [
            text
            for text, answer in self._taken.items()
            if answer is not None and (answer is current or answer.done())
        ]

    async def finish(self) -> None:
        """Wait until every accepted text is handed to the session, which may not have answered it yet."""
        if self._tasks:
            # A caller that gives up cancels none of them.
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        self.stop()
        for task in self._tasks:
            task.cancel()

    def _on_stream(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._taken[reader.info.stream_id] = None
        while len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        task = asyncio.get_running_loop().create_task(self._take(reader, identity))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, reader: rtc.TextStreamReader, identity: str) -> None:
        try:
            text = await reader.read_all()
            await self._started.wait()
            if reader.info.stream_id in self._skipped:
                return
            # Nobody would receive an answer before RoomIO knows a first person.
            sender = await announced(self._room, identity)
            if self._audience.is_person(sender):
                event = room_io.TextInputEvent(text=text, info=reader.info, participant=sender)
                self._taken[reader.info.stream_id] = await self._answer(event)
        except TimeoutError:
            _log.warning("ignored a text: its sender is not in the room")
        except Exception:  # noqa: BLE001 - a caller's callback may raise; later texts must still be answered
            _log.exception("could not answer a text")

    async def _answer(self, event: room_io.TextInputEvent) -> "_Answer":
        if self._terms.on_text is not None:
            result = self._terms.on_text(self._session, event)
            if inspect.isawaitable(result):
                await result
            return _CALLED
        self._session.reset_away_timer()
        if len(self._audience.people()) <= 1:
            # As without this package: a new text interrupts the answer to the last one. With several people
            # nobody may cut off the answer to another person, so their questions queue up.
            with contextlib.suppress(RuntimeError):
                await self._session.interrupt()
        return self._session.generate_reply(user_input=event.text)
