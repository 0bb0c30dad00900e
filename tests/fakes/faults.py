"""What may go wrong with a call to LiveKit, method by method, as a test wants it."""

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Protocol

from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable, ServiceError

#: The outcomes that a client of LiveKit can meet.
UNREACHABLE = LiveKitUnreachable("LiveKit is not reachable")
UNAVAILABLE = LiveKitUnavailable("LiveKit answered 503 unavailable")
TIMEOUT = LiveKitTimeout("LiveKit did not answer within 4.5 s")
REFUSED = LiveKitRefused("LiveKit rejected the API key and secret")


class Fault(Protocol):
    async def before(self) -> None:
        """Runs before LiveKit acts; raising keeps it from acting."""

    async def after(self) -> None:
        """Runs after LiveKit has acted; raising loses its answer."""


@dataclass(frozen=True)
class FailBefore:
    """LiveKit does nothing, and the caller gets the error."""

    error: ServiceError

    async def before(self) -> None:
        raise self.error

    async def after(self) -> None:
        pass


@dataclass(frozen=True)
class FailAfter:
    """LiveKit does it, and the caller gets the error all the same."""

    error: ServiceError

    async def before(self) -> None:
        pass

    async def after(self) -> None:
        raise self.error


@dataclass(frozen=True)
class Hang:
    """The call stands still until it is released; `acted`: after LiveKit has done it."""

    acted: bool = False
    #: Set when the call has come to the point where it stands still.
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        self._released.set()

    async def before(self) -> None:
        if not self.acted:
            await self._stand_still()

    async def after(self) -> None:
        if self.acted:
            await self._stand_still()

    async def _stand_still(self) -> None:
        self.reached.set()
        await self._released.wait()


class _Nothing:
    async def before(self) -> None:
        pass

    async def after(self) -> None:
        pass


class Faults:
    """The script of a test: the next calls of a method, or all of them until it is mended."""

    def __init__(self) -> None:
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._standing: dict[str, Fault] = {}
        self._everywhere: Fault | None = None

    def script(self, method: str, *faults: Fault | None) -> None:
        """The next calls of `method` meet these, one each; None is a call that goes well."""
        self._next[method].extend(fault or _Nothing() for fault in faults)

    def always(self, method: str, fault: Fault) -> None:
        self._standing[method] = fault

    def everywhere(self, fault: Fault) -> None:
        """Every call of every method meets this: LiveKit is down, or its keys have changed."""
        self._everywhere = fault

    def hang(self, method: str, *, acted: bool = False) -> Hang:
        """The next call of `method` stands still until the returned Hang is released."""
        hang = Hang(acted)
        self.script(method, hang)
        return hang

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self._next.clear()
        self._standing.clear()
        self._everywhere = None

    def next(self, method: str) -> Fault:
        if self._next[method]:
            return self._next[method].popleft()
        return self._standing.get(method) or self._everywhere or _Nothing()
