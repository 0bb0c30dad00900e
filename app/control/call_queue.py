"""The queue of calls that wait for a place: first come, first served, over all replicas."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from app.clock import Clock
from app.control.capacity import Capacity, claim_of, refusal
from app.control.processor import ChangeProcessor
from app.control.requests import AgentGrant, AgentRequest, Patience, QueueTicket
from app.errors import AtCapacity, Busy, CallerGone, ServiceError
from app.lifecycle import State
from app.metrics.counters import Counters
from app.state.capacity import Cap, Claim, Standing
from app.state.changes import Change, Outcome
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

#: How often the places are counted: other replicas free them too, and a caller who hangs up says nothing.
_ROUND_S = 0.5


@dataclass(eq=False, kw_only=True)
class _Waiter:
    claim: Claim
    patience: Patience
    cap: Cap
    #: Set with a grant or a failure.
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    failure: ServiceError | None = None
    is_granted: bool = False
    #: When it came, and now; None: not known yet.
    first_position: int | None = None
    position: int | None = None

    def note(self, standing: Standing) -> None:
        self.position = standing.position
        if self.first_position is None:
            self.first_position = standing.position
        if standing.blocked_by is None:
            self.is_granted = True
            self.settled.set()
        else:
            self.cap = standing.blocked_by

    def fail(self, failure: ServiceError) -> None:
        if not self.settled.is_set():
            self.failure = failure
            self.settled.set()


class CallQueue:
    def __init__(
        self, capacity: Capacity, processor: ChangeProcessor, counters: Counters, clock: Clock
    ) -> None:
        self._capacity = capacity
        self._counters = counters
        self._clock = clock
        self._waiters: set[_Waiter] = set()
        #: Set when a place may have become free, or somebody has come.
        self._news = asyncio.Event()
        self._loop = BackgroundLoop("call queue")
        self._is_stopping = False
        processor.subscribe(self._follow)

    def __len__(self) -> int:
        return len(self._waiters)

    def start(self) -> None:
        self._loop.start(self._run)

    async def close(self) -> None:
        await self._loop.close()

    def stop(self) -> None:
        """Answer those who wait: the service stops."""
        self._is_stopping = True
        for waiter in self._waiters:
            waiter.fail(Busy("The service is stopping; retry"))

    async def serve(
        self, request: AgentRequest, attempt: Callable[[AgentRequest], Awaitable[AgentGrant]]
    ) -> AgentGrant:
        """Make the attempt; if the agent is at capacity and the caller has patience, wait and repeat it.

        Raises:
            AtCapacity: there was no place in time.
            Busy: the service stops.
            CallerGone: nobody waits any more.
        """
        came_at = self._clock.now()
        try:
            try:
                return await attempt(request)
            except AtCapacity as error:
                if request.patience is None:
                    raise
                cap = Cap(error.cap)
            async with self._queued(request, request.patience, cap, came_at) as ticket:
                return replace(await attempt(request), queue=ticket)
        except AtCapacity as error:
            self._counters.refused[request.agent_name, error.cap] += 1
            raise

    @asynccontextmanager
    async def _queued(
        self, request: AgentRequest, patience: Patience, cap: Cap, came_at: int
    ) -> AsyncIterator[QueueTicket]:
        """Yields once the request has a place, which is released at the end if it is still there."""
        waiter = _Waiter(claim=claim_of(request, came_at), patience=patience, cap=cap)
        self._waiters.add(waiter)
        self._news.set()
        try:
            if self._is_stopping:
                raise Busy("The service is stopping; retry")
            with suppress(TimeoutError):
                async with asyncio.timeout(patience.wait_s):
                    await waiter.settled.wait()
            waited_ms = (self._clock.now() - came_at) // 1_000
            if waiter.failure:
                raise waiter.failure
            if not waiter.is_granted:
                raise refusal(waiter.cap, waiter.position, waited_ms)
            self._waiters.discard(waiter)
            yield QueueTicket(position=waiter.first_position or 1, waited_ms=waited_ms)
        finally:
            self._waiters.discard(waiter)
            # In its turn: a round that is under way would store the claim again.
            async with self._capacity.turn(request.agent_name):
                await self._capacity.release(request.id)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            for agent_name in sorted({waiter.claim.agent_name for waiter in self._waiters}):
                await self._round(agent_name)
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROUND_S if self._waiters else None):
                    await self._news.wait()

    async def _round(self, agent_name: str) -> None:
        """Take those out who have hung up, and grant what can be granted."""
        async with self._capacity.turn(agent_name):
            named = {one.claim.id: one for one in self._waiters if one.claim.agent_name == agent_name}
            for waiter in named.values():
                if not waiter.patience.is_wanted():
                    waiter.fail(CallerGone("The caller has hung up"))
            waiting = [one.claim for one in named.values() if not one.settled.is_set()]
            if not waiting:
                return
            try:
                found = await self._capacity.renew(agent_name, waiting)
            except ServiceError as error:
                logger.warning(
                    "Places could not be counted for the calls that wait; the next round retries",
                    extra={"action": "capacity", "agent": agent_name, "code": error.code},
                )
                return
            for claim_id, standing in found.items():
                named[claim_id].note(standing)

    def _follow(self, _change: Change, outcome: Outcome) -> None:
        if self._waiters and any(change.after.state is State.ENDED for change in outcome.transitions):
            self._news.set()
