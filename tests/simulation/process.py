"""One life of the service: all it does passes seams, at any of which it can be slow, fail, or be killed."""

import asyncio
import random
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from enum import StrEnum, auto
from typing import Any, TypeVar

from app.config.settings import Config
from app.control.relief import Relief
from app.control.requests import AgentGrant, AgentRequest, Patience
from app.errors import ServiceError
from app.lifecycle import Dispatch
from app.lifecycle.warm import is_holding_room
from app.logs.counts import LogCounts
from app.service import build_service
from app.state.changes import Change, Intent, Outcome, RoomEvent
from app.state.presence import Participant, ParticipantKind
from fakes.clock import FakeClock
from fakes.faults import REFUSED, TIMEOUT, UNAVAILABLE, UNREACHABLE
from fakes.livekit import FakeLiveKit
from fakes.server import FakeServer
from simulation.database import Database, SharedStore

T = TypeVar("T")

#: app.livekit gives a call up after this long.
_CALL_TIMEOUT_S = 4.5
#: A seam is passed at once, or after that many rounds of everybody else.
_LONGEST_PAUSE = 3

#: Whose tasks are being made. Timers and tasks inherit it, so that a kill finds them all.
_CURRENT: ContextVar["Process | None"] = ContextVar("process", default=None)


class Ill(StrEnum):
    """What may be wrong with LiveKit, as the service meets it."""

    UNREACHABLE = auto()
    UNAVAILABLE = auto()  #: 503, and nothing done
    LOST_ANSWER = auto()  #: done, but 503
    HANGING = auto()  #: no answer, and nothing done
    HANGING_AFTER = auto()  #: no answer, but done
    SLOW = auto()
    REFUSED = auto()  #: wrong keys


class Weather:
    """A fault for each call, or none, as it is said to be for the next calls."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        #: What is wrong, and with how many of the next calls; None: until it is mended.
        self.ill: Ill | None = None
        self.calls_left: int | None = None
        #: When a call last met it.
        self.met_at: int | None = None
        self._after: dict[asyncio.Task[Any] | None, Ill] = {}

    def turn(self, ill: Ill | None, calls: int | None = None) -> None:
        self.ill, self.calls_left = ill, calls

    async def before(self) -> None:
        await self._process.seam()
        ill = self._next()
        if ill:
            self.met_at = self._process.clock.now()
        match ill:
            case Ill.UNREACHABLE:
                raise UNREACHABLE
            case Ill.UNAVAILABLE:
                raise UNAVAILABLE
            case Ill.REFUSED:
                raise REFUSED
            case Ill.HANGING:
                await asyncio.sleep(_CALL_TIMEOUT_S)
                raise TIMEOUT
            case Ill.SLOW:
                await asyncio.sleep(self._process.random.choice((0.05, 0.5, 2.0, 4.0)))
            case Ill.LOST_ANSWER | Ill.HANGING_AFTER:
                self._after[asyncio.current_task()] = ill

    async def after(self) -> None:
        ill = self._after.pop(asyncio.current_task(), None)
        await self._process.seam()
        if ill is Ill.HANGING_AFTER:
            await asyncio.sleep(_CALL_TIMEOUT_S)
            raise TIMEOUT
        if ill is Ill.LOST_ANSWER:
            raise UNAVAILABLE

    def _next(self) -> Ill | None:
        if self.ill is None:
            return None
        if self.calls_left is not None:
            if self.calls_left <= 0:
                self.ill = None
                return None
            self.calls_left -= 1
        return self.ill


class ReadingLiveKit(FakeLiveKit):
    """Remembers when it last said that nobody was in a room: a removal for want of people rests on that."""

    def __init__(self, server: FakeServer, clock: FakeClock) -> None:
        super().__init__(server, clock)
        self.empty_at: dict[str, int] = {}

    async def list_participants(self, room_name: str) -> tuple[Participant, ...]:
        asked_at = self._clock.now()
        answer = await super().list_participants(room_name)
        if not any(participant.kind is ParticipantKind.PERSON for participant in answer):
            self.empty_at[room_name] = asked_at
        return answer


class Process:
    def __init__(
        self,
        config: Config,
        database: Database,
        server: FakeServer,
        clock: FakeClock,
        *,
        replicas: int,
        rng: random.Random,
    ) -> None:
        self.random = rng
        self.dead = False
        self.stopping = False
        #: How many seams it still passes before it is killed.
        self.seams_left: int | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.clock = clock
        self.livekit = ReadingLiveKit(server, clock)
        self.weather = Weather(self)
        self.livekit.faults.everywhere(self.weather)
        store = SharedStore(database, self.seam, replicas=replicas)
        self.service = build_service(config, store, self.livekit, clock, LogCounts())
        #: The names of agents that it has adopted.
        self.adopted: set[str] = set()
        self.service.processor.subscribe(self._follow)

    def _follow(self, change: Change, outcome: Outcome) -> None:
        if isinstance(change, Intent) and change.dispatch.dispatch_id and outcome.applied:
            self.adopted.add(change.dispatch.agent_name)

    async def seam(self) -> None:
        """A point at which others go on, and at which this process can be killed."""
        if self.dead:
            raise asyncio.CancelledError
        if self.seams_left is not None:
            self.seams_left -= 1
            if self.seams_left < 0:
                self.kill()
                raise asyncio.CancelledError
        for _ in range(self.random.randrange(_LONGEST_PAUSE)):
            await asyncio.sleep(0)

    def kill(self) -> None:
        """kill -9: nothing of it goes on, and nothing is put in order."""
        self.dead = True
        self.service.timers.stop()
        for task in list(self.tasks):
            task.cancel()

    @property
    def is_up(self) -> bool:
        return not self.dead and not self.stopping

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process."""
        token = _CURRENT.set(self)
        try:
            return asyncio.get_running_loop().create_task(coroutine)
        finally:
            _CURRENT.reset(token)

    async def start(self) -> bool:
        """Whether it came up: a database that cannot be read at the start ends it at once."""
        try:
            await self.begin(self.service.start())
        except ServiceError:
            self.kill()
        except asyncio.CancelledError:
            if not self.dead:
                raise
        return not self.dead

    async def stop(self) -> None:
        self.stopping = True
        try:
            await self.begin(self.service.stop())
        except asyncio.CancelledError:
            if not self.dead:
                raise
        self.kill()

    async def take(self, event: RoomEvent) -> Outcome:
        """What the handler does with a webhook; raises ServiceError for another status than 200."""
        if is_holding_room(event.room_name):
            self.service.warm_pool.note_event(event.room_name)
            return Outcome(applied=False)
        return await self.begin(self.service.processor.submit_one(event))

    def request(self, room_name: str, agent_name: str, *, wait_s: float = 0) -> asyncio.Task[AgentGrant]:
        wanted = AgentRequest(
            room_name=room_name,
            agent_name=agent_name,
            timezone="Europe/Berlin",
            patience=Patience(wait_s=wait_s, is_wanted=lambda: True) if wait_s else None,
        )
        return self.begin(self.service.dispatcher.request(wanted))

    def hold(self, room_name: str, agent_name: str) -> asyncio.Task[AgentGrant]:
        return self.begin(self.service.holds.hold(room_name, agent_name))

    def resume(self, room_name: str, agent_name: str) -> asyncio.Task[AgentGrant]:
        wanted = AgentRequest(room_name=room_name, agent_name=agent_name)
        return self.begin(self.service.holds.resume(wanted))

    def relieve(self, row_id: str, deployment: str | None) -> asyncio.Task[Relief]:
        return self.begin(self.service.reliever.relieve(row_id, deployment))

    def end(self, room_name: str, agent_name: str) -> asyncio.Task[Dispatch | None]:
        return self.begin(self.service.dispatcher.end(room_name, agent_name))


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,
) -> asyncio.Task[Any]:
    """Tasks belong to the process in whose context they are made, and die with it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = context.get(_CURRENT) if context else _CURRENT.get()
    if process:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
        if process.dead:
            task.cancel()
    return task
