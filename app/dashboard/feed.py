"""What the open pages are told: all there is at first, then what changes, a few times a second at most.

Changes of this process come from its own commits. Those of other replicas are read from the database every
two seconds. Neither costs anything while no page is open.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

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

MAX_PAGES = 32
_PUBLISH_EVERY_S = 0.25
_POLL_EVERY_S = 2.0
_SAMPLE_EVERY_S = 10.0
#: How many polls back history is read again: a transaction of another replica may take that long.
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
        problem: Callable[[], str | None],
    ) -> None:
        """`totals` are this process's counters; `problem` is what the service knows to be wrong."""
        self._store = store
        self._clock = clock
        self._totals = totals
        self._alerts = alerts
        self._problem = problem
        self._history = MinuteHistory()
        #: How many pages are open, those included that wait for their snapshot.
        self.pages = 0
        self._subscribers: set[Subscriber] = set()
        #: None while no page is open.
        self._mirror: Mirror | None = None
        #: History up to these numbers was there at the last polls, oldest first.
        self._marks: deque[int] = deque(maxlen=_POLLS_BACK)
        self._counts: dict[str, int] = {}
        self._loading = asyncio.Lock()
        self._publisher: asyncio.Task[None] | None = None
        self._sampler: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        self.sample()
        self._sampler = asyncio.create_task(self._sample(), name="dashboard samples")

    def dismiss(self) -> None:
        """Close every page's stream: an open one would hold up the stop of the server."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.close()

    async def close(self) -> None:
        self.dismiss()
        tasks = [task for task in (self._sampler, self._publisher) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """Note the dispatches that a commit changed."""
        for transition in outcome.transitions:
            self.note(transition.after)

    def note(self, dispatch: Dispatch) -> None:
        """Take in what this process has just committed."""
        if self._mirror is not None:
            self._mirror.take(dispatch)

    def sample(self) -> Minute:
        """Read the counters into the hour."""
        return self._history.record(self._clock.now(), self._totals())

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Subscriber]:
        """A watcher whose first event is a snapshot.

        Raises:
            Busy: as many pages are open as may be, or the service is stopping.
            DatabaseUnavailable: what there is cannot be read.
        """
        if self._closed:
            raise Busy("the service is stopping")
        if self.pages >= MAX_PAGES:
            raise Busy(f"{MAX_PAGES} pages are open already; close one")
        subscriber = Subscriber()
        self.pages += 1
        try:
            mirror = await self._load()
            # Nothing is awaited from the snapshot on: it and the changes after it are without a gap.
            subscriber.offer(messages.encode_event("snapshot", self._snapshot(mirror)))
            subscriber.offer(messages.encode_event("beat", self._beat(self._problem())))
            self._subscribers.add(subscriber)
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            self.pages -= 1

    async def _load(self) -> Mirror:
        """The mirror, filled and kept up to date as long as a page is open."""
        async with self._loading:
            if self._mirror is not None and self._publisher and not self._publisher.done():
                return self._mirror
            mirror = Mirror()
            # Before the reads: what is committed during them is not missed.
            self._mirror = mirror
            try:
                self._marks.append(await self._store.last_change())
                mirror.take_all(await self._store.list_dispatches(_OPEN_STATES, None, MAX_LIVE))
                mirror.take_all(await self._store.recently_ended(MAX_ENDED))
                self._counts = await self._store.count_open()
            except BaseException:
                self._forget()
                raise
            mirror.drain()
            self._publisher = asyncio.create_task(self._publish(mirror), name="dashboard feed")
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
        """Read what other replicas have changed; returns what is wrong, if something is."""
        try:
            newest = await self._store.last_change()
            mirror.take_all(await self._store.changed_since(self._marks[0]))
            self._counts = await self._store.count_open()
        except ServiceError as error:
            return str(error)
        self._marks.append(newest)
        return self._problem()

    def _forget(self) -> None:
        self._mirror = None
        self._marks.clear()

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
        return messages.beat(self._clock.now(), self._counts, self._alerts(), self.sample(), problem)

    def _now_ms(self) -> int:
        return messages.to_ms(self._clock.now())

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_EVERY_S)
            self.sample()
