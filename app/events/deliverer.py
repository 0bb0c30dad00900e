"""The deliverer: sends what waits to the endpoints of other programs, each room's events in their order.

Everything that it has to do is in the database, and each delivery is leased: after a kill, and with several
replicas, another process goes on. An event that was taken by a receiver may be sent again if its process
dies before that is stored.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from app.clock import Clock
from app.config.event_endpoints import EventEndpoint
from app.database.deliveries import Deliveries
from app.database.events import EventLog
from app.errors import ServiceError
from app.events.losses import Losses
from app.events.sender import Sender
from app.lifecycle import SECOND_US
from app.metrics.counters import Counters
from app.state.changes import Change, Outcome
from app.state.deliveries import FAILING_AFTER, Attempt, Delivery, EndpointStatus, receiver_label
from app.tasks import BackgroundLoop, BackgroundTasks

logger = logging.getLogger(__name__)

#: Rooms that one endpoint gets events of at once.
CONCURRENCY = 16
#: How often what other replicas have committed, and what is due again, is looked for.
_POLL_S = 1.0
#: From one round to the next: each has two transactions, however many deliveries it is about, and SQLite has
#: one writer for these and for the webhooks.
_ROUND_S = 0.1
#: How often the statuses are read, and old deliveries are given up.
_STATUS_EVERY_US, _TIDY_EVERY_US = 3 * SECOND_US, 60 * SECOND_US
#: The same error of an endpoint that takes other events is logged again after this time.
_LOG_AGAIN_US = 3_600 * SECOND_US
#: Time for posts under way at a stop, and as much for storing what came of them; at most.
_GRACE_S = 2.0


class Deliverer:
    def __init__(
        self,
        endpoints: Sequence[EventEndpoint],
        log: EventLog,
        deliveries: Deliveries,
        sender: Sender,
        counters: Counters,
        clock: Clock,
        process_id: str,
    ) -> None:
        """Without endpoints it does nothing. `process_id` holds the leases."""
        self._names = [endpoint.name for endpoint in endpoints]
        self._log = log
        self._deliveries = deliveries
        self._sender = sender
        self._counts = counters.event_deliveries
        self._losses = Losses(counters)
        self._clock = clock
        self._process_id = process_id
        self._loop = BackgroundLoop("event deliveries")
        self._tasks = BackgroundTasks()
        self._wake = asyncio.Event()
        #: Posts under way, by endpoint.
        self._under_way: Counter[str] = Counter()
        #: What came of posts, until it is stored.
        self._attempts: list[Attempt] = []
        #: Posts from here that have failed since the last success, by endpoint.
        self._failures: Counter[str] = Counter()
        #: When an error was logged, by endpoint and error.
        self._logged_at: dict[str, dict[str, int]] = {}
        self._has_begun = self._is_out = False
        self._status_at = self._tidy_at = 0
        #: As of the last look.
        self.statuses: Sequence[EndpointStatus] = ()

    def start(self) -> None:
        if self._names:
            self._loop.start(self._run)

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """Look for what a commit has announced."""
        if outcome.transitions:
            self._wake.set()

    def wake(self) -> None:
        """Look for what is to be sent again."""
        self._wake.set()

    async def close(self, grace_s: float) -> None:
        """Give posts under way a moment; what is not sent by then, others send, or the next start."""
        await self._loop.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + min(grace_s, _GRACE_S)
        await self._tasks.drain((until - loop.time()) / 2)
        with suppress(ServiceError, TimeoutError):
            async with asyncio.timeout_at(until):
                if self._attempts:
                    await self._deliveries.exchange(self._attempts, {}, self._clock.now(), self._process_id)
                if self._has_begun:
                    await self._deliveries.release(self._process_id)
        await self._sender.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            next_s = loop.time() + _ROUND_S
            self._wake.clear()
            try:
                if not self._has_begun:
                    await self._deliveries.begin(self._names, self._clock.now())
                self._has_begun = True
                await self._round()
                self._is_out = False
            except ServiceError as error:
                self._note_outage(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()
            await asyncio.sleep(max(0.0, next_s - loop.time()))

    async def _round(self) -> None:
        now = self._clock.now()
        await self._log.publish(self._names, now)
        await self._look(now)
        free = {name: CONCURRENCY - self._under_way[name] for name in self._names}
        usable = [name for name, number in free.items() if number > 0]
        if self._attempts or (usable and await self._deliveries.is_due(usable, now)):
            await self._exchange(free)

    async def _exchange(self, free: dict[str, int]) -> None:
        attempts = list(self._attempts)
        taken = await self._deliveries.exchange(attempts, free, self._clock.now(), self._process_id)
        # Those that came meanwhile are stored by the next round, and so are all after a failure.
        del self._attempts[: len(attempts)]
        for delivery in taken:
            self._under_way[delivery.endpoint] += 1
            self._tasks.spawn(self._deliver(delivery), "event delivery")

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            attempt = await self._sender.send(delivery)
        except Exception as error:
            # Like any failure: the others of its endpoint must go on.
            logger.exception("Unexpected error while sending an event", extra={"action": "event_delivery"})
            attempt = Attempt(delivery.endpoint, delivery.event.position, error=type(error).__name__)
        finally:
            self._under_way[delivery.endpoint] -= 1
        self._attempts.append(attempt)
        self._note(attempt)
        self._wake.set()

    async def _look(self, now: int) -> None:
        """Give up what has waited for too long, and read how the endpoints fare."""
        if now >= self._tidy_at:
            self._losses.note(await self._deliveries.tidy(self._names, now))
            self._tidy_at = now + _TIDY_EVERY_US
        if now >= self._status_at:
            self.statuses = await self._deliveries.statuses(self._names, now)
            self._status_at = now + _STATUS_EVERY_US

    def _note(self, attempt: Attempt) -> None:
        """Count it, and log when an endpoint begins to fail, fails otherwise, or works again.

        One event that is never taken among many that are makes a line an hour, not one for each try.
        """
        name, error, now = attempt.endpoint, attempt.error, self._clock.now()
        self._counts[receiver_label(name), "failed" if error else "delivered"] += 1
        fields = {"action": "event_delivery", "endpoint": name}
        if error is None:
            if self._failures.pop(name, 0) >= FAILING_AFTER:
                self._logged_at.pop(name, None)
                logger.info("An endpoint takes events again", extra=fields)
            return
        self._failures[name] += 1
        logged_at = self._logged_at.setdefault(name, {})
        if attempt.is_gone:
            logger.error(
                "An endpoint wants no more events (410); it gets none until the service starts again",
                extra=fields,
            )
        elif error not in logged_at or now - logged_at[error] >= _LOG_AGAIN_US:
            logged_at[error] = now
            logger.warning(
                "An event could not be delivered; it is tried again for a day",
                extra={**fields, "reason": error, "position": attempt.position},
            )

    def _note_outage(self, error: ServiceError) -> None:
        if not self._is_out:
            logger.warning(
                "Events cannot be delivered now; the next round retries",
                extra={"action": "event_delivery", "code": error.code},
            )
        self._is_out = True
