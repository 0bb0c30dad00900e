"""Webhooks on their way: prompt and in order as LiveKit means them, or held back, lost, repeated, mixed."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum, auto

from app.errors import ServiceError
from app.livekit.webhooks import translate
from app.state.changes import Outcome, RoomEvent
from fakes.webhooks import SignedWebhook
from simulation.process import Process

#: LiveKit tries once, and again after these.
_RETRIES_AFTER_S = (0.5, 1.5, 4.0, 9.0)


class Service(StrEnum):
    PROMPT = auto()
    HELD = auto()  #: everything waits until it is delivered by hand, in any order
    LOST = auto()


@dataclass(frozen=True)
class Letter:
    number: int
    event: RoomEvent


class PostOffice:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        choose: Callable[[], Process | None],
        watch: Callable[[RoomEvent, Outcome], None],
        rng: random.Random,
    ) -> None:
        self.service = Service.PROMPT
        self.held: list[Letter] = []
        self.lost: list[Letter] = []
        #: Ids of the events that were answered with 200, and when.
        self.answered: dict[str, Letter] = {}
        self.journal: Callable[[str], None] = print
        self._loop = loop
        self._choose = choose
        self._watch = watch
        self._random = rng
        self._queues: dict[str, list[Letter]] = defaultdict(list)
        self._carriers: dict[str, asyncio.Task[None]] = {}
        self._sent = 0

    @property
    def is_clean(self) -> bool:
        """Whether everything that LiveKit has ever sent has arrived."""
        return not self.held and not self.lost and not any(self._queues.values())

    def __call__(self, webhook: SignedWebhook) -> None:
        event = translate(webhook.body).event
        if event is None:
            return
        self._sent += 1
        who = event.participant
        self.journal(
            f"LiveKit: {event.kind} {event.room_name} {event.room.sid}"
            f" {who.identity or who.sid if who else ''} {event.reason or ''} ({self._sent})"
        )
        letter = Letter(self._sent, event)
        if self.service is Service.LOST:
            self.lost.append(letter)
        elif self.service is Service.HELD:
            self.held.append(letter)
        else:
            self._queues[event.room_name].append(letter)
            if event.room_name not in self._carriers:
                # In a context of its own: LiveKit's errands are not tasks of whoever made it act.
                carrier = self._loop.create_task(self._carry(event.room_name), context=Context())
                self._carriers[event.room_name] = carrier

    async def deliver(self, letter: Letter) -> bool:
        """One try; whether it was answered with 200."""
        process = self._choose()
        if process is None:
            return False
        try:
            outcome = await process.take(letter.event)
        except ServiceError:
            return False
        except asyncio.CancelledError:
            if process.dead:
                return False
            raise
        self.answered[letter.event.event_id] = letter
        self.journal(f"  delivered ({letter.number}) applied={outcome.applied}")
        self._watch(letter.event, outcome)
        return True

    async def deliver_or_hold(self, letter: Letter) -> None:
        """One try out of turn; what is refused waits for another."""
        if not await self.deliver(letter):
            self.held.append(letter)

    async def _carry(self, room_name: str) -> None:
        queue = self._queues[room_name]
        while queue:
            letter = queue[0]
            for wait_s in (*_RETRIES_AFTER_S, None):
                if await self.deliver(letter):
                    break
                if wait_s is None:
                    self.lost.append(letter)
                    break
                await asyncio.sleep(wait_s)
            queue.pop(0)
        del self._carriers[room_name]
