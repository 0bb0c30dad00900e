"""The feed of the open pages: first a snapshot, then changes, at most a few times a second.

Changes of this process come from its own commits. Changes of other replicas are read from the database every
two seconds. Neither costs anything while no page is open.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

from app.alerts.model import Alert
from app.clock import Clock
from app.dashboard import messages
from app.dashboard.history import Minute, MinuteHistory, Totals
from app.dashboard.mirror import MAX_ENDED, MAX_LIVE, Mirror
from app.dashboard.subscriber import Subscriber
from app.database.store import Store
from app.errors import Busy, ServiceError
from app.lifecycle import LIVE_STATES, Dispatch, State
from app.state.changes import Change, Outcome
from app.state.deliveries import EndpointStatus
from app.state.views import AgentTtl, WarmCounts
from app.state.workers import Worker, WorkerState
from app.tasks import BackgroundLoop, repeat

MAX_PAGES = 32
_PUBLISH_EVERY_S = 0.25
_POLL_EVERY_S = 2.0
_SAMPLE_EVERY_S = 10.0
#: How many polls back the history is read again: a transaction of another replica may take that long.
_POLLS_BACK = 4
_OPEN_STATES = (*LIVE_STATES, State.ENDING)


class Feed:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        totals: Callable[[], Totals],
        alerts: Callable[[], Iterable[Alert]],
        ttls: Callable[[], Iterable[AgentTtl]],
        workers: Callable[[], Iterable[tuple[Worker, WorkerState]]],
        warm: Callable[[], Iterable[WarmCounts]],
        endpoints: Callable[[], Iterable[EndpointStatus]],
        problem: Callable[[], str | None],
    ) -> None:
        """`totals` are this process's counters; `problem` is the known problem of the service, if any."""
        self._store = store
        self._clock = clock
        self._totals = totals
        self._alerts = alerts
        self._ttls = ttls
        self._workers = workers
        self._warm = warm
        self._endpoints = endpoints
        self._problem = problem
        self._history = MinuteHistory()
        #: The number of open pages, including those that wait for their snapshot.
        self.pages = 0
        self._subscribers: set[Subscriber] = set()
        #: None while no page is open.
        self._mirror: Mirror | None = None
        #: The newest id of the history at each of the last polls, oldest first.
        self._polled_ids: deque[int] = deque(maxlen=_POLLS_BACK)
        self._counts: dict[str, int] = {}
        self._loading = asyncio.Lock()
        self._publisher = BackgroundLoop("dashboard feed")
        self._sampler = BackgroundLoop("dashboard samples")
        self._closed = False

    def start(self) -> None:
        self.sample()
        self._sampler.start(partial(repeat, self._sample, _SAMPLE_EVERY_S))

    def close_streams(self) -> None:
        """Close the stream of every page: an open one would delay the stop of the server."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.close()

    async def close(self) -> None:
        self.close_streams()
        await self._sampler.close()
        await self._publisher.close()

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """Note the dispatches that a commit changed."""
        for transition in outcome.transitions:
            self.note(transition.after)

    def note(self, dispatch: Dispatch) -> None:
        """Add a dispatch that this process has just committed."""
        if self._mirror is not None:
            self._mirror.apply(dispatch)

    def sample(self) -> Minute:
        """Record the counters in the history."""
        return self._history.record(self._clock.now(), self._totals())

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscriber]:
        """A subscriber whose first event is a snapshot.

        Raises:
            Busy: the maximum number of pages is open, or the service is stopping.
            DatabaseUnavailable: the snapshot cannot be read.
        """
        if self._closed:
            raise Busy("The service is stopping")
        if self.pages >= MAX_PAGES:
            raise Busy(f"{MAX_PAGES} dashboard pages are already open; close one")
        subscriber = Subscriber()
        self.pages += 1
        try:
            mirror = await self._load()
            # No await after the snapshot: there is no gap between it and the changes after it.
            subscriber.offer(messages.encode_event("snapshot", self._snapshot(mirror)))
            subscriber.offer(messages.encode_event("beat", self._beat(self._problem())))
            self._subscribers.add(subscriber)
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            self.pages -= 1

    async def _load(self) -> Mirror:
        """Return the mirror, which is kept up to date while a page is open; load it for the first page."""
        async with self._loading:
            if self._mirror is not None and self._publisher.is_running:
                return self._mirror
            mirror = Mirror()
            # Before the reads, so that no commit during them is missed.
            self._mirror = mirror
            try:
                self._polled_ids.append(await self._store.last_change())
                mirror.apply_all(await self._store.list_dispatches(_OPEN_STATES, None, MAX_LIVE))
                mirror.apply_all(await self._store.recently_ended(MAX_ENDED))
                self._counts = await self._store.count_open()
            except BaseException:
                self._forget()
                raise
            mirror.drain()
            self._publisher.start(partial(self._publish, mirror))
            return mirror

    async def _publish(self, mirror: Mirror) -> None:
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + _POLL_EVERY_S
        while self.pages:
            if loop.time() >= poll_at:
                problem = await self._poll(mirror)
                self._send("beat", self._beat(problem))
                poll_at = loop.time() + _POLL_EVERY_S
            changed = mirror.drain()
            if changed:
                cards = [messages.agent_card(dispatch) for dispatch in changed]
                self._send("changes", messages.Changes(at=self._now_ms(), agents=cards))
            await asyncio.sleep(_PUBLISH_EVERY_S)
        self._forget()

    async def _poll(self, mirror: Mirror) -> str | None:
        """Read the changes of other replicas; returns the current problem, if any."""
        try:
            newest = await self._store.last_change()
            mirror.apply_all(await self._store.changed_since(self._polled_ids[0]))
            self._counts = await self._store.count_open()
        except ServiceError as error:
            return str(error)
        self._polled_ids.append(newest)
        return self._problem()

    def _forget(self) -> None:
        self._mirror = None
        self._polled_ids.clear()

    def _send(self, name: str, message: messages.Beat | messages.Changes) -> None:
        event = messages.encode_event(name, message)
        for subscriber in self._subscribers:
            subscriber.offer(event)

    def _snapshot(self, mirror: Mirror) -> messages.Snapshot:
        return messages.Snapshot(
            at=self._now_ms(),
            agents=[messages.agent_card(dispatch) for dispatch in mirror],
            minutes=[messages.minute_card(minute) for minute in self._history.minutes],
            max_live=MAX_LIVE,
            max_ended=MAX_ENDED,
        )

    def _beat(self, problem: str | None) -> messages.Beat:
        return messages.beat(
            self._clock.now(),
            self._counts,
            self._alerts(),
            self.sample(),
            self._ttls(),
            self._workers(),
            self._warm(),
            self._endpoints(),
            problem,
        )

    def _now_ms(self) -> int:
        return messages.to_ms(self._clock.now())

    async def _sample(self) -> None:
        self.sample()
