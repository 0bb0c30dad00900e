"""Calls that wait until the agent of a room answers, or until it is clear why it does not."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from app.clock import Clock
from app.control.agent_readiness import AgentReadiness
from app.control.dispatcher import Dispatcher
from app.control.processor import ChangeProcessor
from app.control.ready_failures import failure_in_time, failure_of
from app.control.requests import AgentGrant, AgentRequest, is_ready
from app.database.store import Store
from app.errors import Busy, CallerGone
from app.lifecycle import SECOND_US, Dispatch, State
from app.lifecycle.relief import answering
from app.state.changes import Change, Outcome

#: A call waits at most this long, and at most for so many join timeouts: as many as the dispatches that are
#: tried before an agent counts as unavailable. Proxies give up after 60 s.
_LONGEST_WAIT_US = 45 * SECOND_US
_JOIN_TIMEOUTS = 3
#: How often the row is read: other replicas change it too, and a caller who hangs up says nothing.
_POLL_S = 0.5


class ReadyCalls:
    def __init__(
        self,
        store: Store,
        processor: ChangeProcessor,
        dispatcher: Dispatcher,
        readiness: AgentReadiness,
        clock: Clock,
    ) -> None:
        self._store = store
        self._processor = processor
        self._dispatcher = dispatcher
        self._readiness = readiness
        self._clock = clock
        #: One for each call, by room and agent name; set when a dispatch there has changed.
        self._news: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._is_stopping = False
        processor.subscribe(self._follow)

    async def request(self, request: AgentRequest, is_wanted: Callable[[], bool]) -> AgentGrant:
        """Request an agent, and return once it answers; see `Dispatcher.request`.

        `is_wanted`: False once the caller has hung up.

        Raises:
            NoWorker, JoinTimeout, CrashLoop, AgentEnded, OnHold: why it does not answer.
            Busy: the service stops.
            CallerGone: nobody waits any more.
        """
        began_at = self._clock.now()
        grant = await self._dispatcher.request(request)
        terms = self._processor.policy.terms_of(grant.dispatch)
        give_up_at = self._clock.now() + min(_JOIN_TIMEOUTS * terms.join_timeout_us, _LONGEST_WAIT_US)
        ready = await self._until_ready(request, grant.dispatch, give_up_at, is_wanted)
        after_ms = (self._clock.now() - began_at) // 1_000
        return replace(grant, dispatch=ready, ready_after_ms=after_ms)

    def stop(self) -> None:
        """Answer those who wait: the service stops."""
        self._is_stopping = True
        for news in self._news.values():
            for one in news:
                one.set()

    async def _until_ready(
        self,
        request: AgentRequest,
        row: Dispatch,
        give_up_at: int,
        is_wanted: Callable[[], bool],
    ) -> Dispatch:
        losses = 0
        with self._listening(request.room_name, request.agent_name) as news:
            while True:
                news.clear()
                if self._is_stopping:
                    raise Busy("The service is stopping; retry")
                if not is_wanted():
                    raise CallerGone("The caller has hung up")
                row = await self._current(row)
                if is_ready(row):
                    return row
                if failure := failure_of(row, self._processor.policy, losses):
                    raise failure
                if self._clock.now() >= give_up_at:
                    raise failure_in_time(row)
                if row.state is State.UNAVAILABLE:
                    # Nobody is in for whom the service would retry, but somebody waits.
                    losses += 1
                    row = (await self._dispatcher.request(request)).dispatch
                # If it was under way in a process that has died, nobody probes the agent.
                self._readiness.check(row)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await news.wait()

    async def _current(self, row: Dispatch) -> Dispatch:
        """The live row of the same room and agent name; without one, the row itself as it is now."""
        known = await self._store.room(row.room_name)
        named = [one for one in known.dispatches if one.agent_name == row.agent_name]
        live = (one for one in named if one.state is not State.ENDING)
        found = answering(named) or next(live, None)
        return found or await self._store.dispatch(row.id) or row

    @contextmanager
    def _listening(self, room_name: str, agent_name: str) -> Iterator[asyncio.Event]:
        key, news = (room_name, agent_name), asyncio.Event()
        self._news[key].add(news)
        try:
            yield news
        finally:
            self._news[key].discard(news)
            if not self._news[key]:
                del self._news[key]

    def _follow(self, _change: Change, outcome: Outcome) -> None:
        for transition in outcome.transitions:
            key = (transition.after.room_name, transition.after.agent_name)
            for news in self._news.get(key, ()):
                news.set()
