"""The outbox: what callers may read of the events, and what they may have sent again."""

from collections.abc import Callable, Sequence

from app.clock import Clock
from app.config.event_endpoints import EventEndpoint
from app.database.deliveries import Deliveries
from app.database.events import EventLog
from app.errors import Conflict, NotFound
from app.events.losses import Losses
from app.lifecycle.days import DAY_US
from app.metrics.counters import Counters
from app.state.deliveries import EndpointStatus
from app.state.events import LoggedEvent


class Outbox:
    """Every method raises `DatabaseUnavailable` during an outage."""

    def __init__(
        self,
        endpoints: Sequence[EventEndpoint],
        log: EventLog,
        deliveries: Deliveries,
        clock: Clock,
        counters: Counters,
        wake: Callable[[], None],
        *,
        keep_days: int,
    ) -> None:
        """`wake`: called when there is something to send again."""
        self._names = [endpoint.name for endpoint in endpoints]
        self._log = log
        self._deliveries = deliveries
        self._clock = clock
        self._losses = Losses(counters)
        self._wake = wake
        self._keep_days = keep_days

    async def read(self, after: int, limit: int) -> list[LoggedEvent]:
        """The events behind a position, in order, with all that was committed before the call.

        Raises: Conflict: there is no such position, as after the restore of an older backup.
        """
        await self._log.publish(self._names, self._clock.now())
        found, last = await self._log.read(after, limit)
        if after > last:
            raise Conflict(
                f"The last event has position {last}: this database is not the one of your position."
                " Read again from an earlier one"
            )
        return found

    async def endpoints(self) -> Sequence[EndpointStatus]:
        """Those that this or another replica has in its settings."""
        return await self._deliveries.statuses(self._names, self._clock.now())

    async def replay(self, endpoint: str | None, after: int, before: int | None) -> int:
        """Send the events between two positions again, to one endpoint or all; returns the deliveries.

        Raises: NotFound: there is no such endpoint.
        """
        names = [status.name for status in await self.endpoints() if endpoint in (None, status.name)]
        if not names:
            raise NotFound("There is no such endpoint: GET /api/livekit/events/endpoints lists those in use")
        await self._log.publish(self._names, self._clock.now())
        count = await self._deliveries.replay(names, after, before, self._clock.now())
        self._wake()
        return count

    async def prune(self) -> None:
        """Delete what is too old; before that, all events get their position.

        Also what waits for endpoints that are in no settings any more, and so have no deliverer.
        """
        now = self._clock.now()
        self._losses.note(await self._deliveries.tidy(self._names, now))
        await self._log.publish(self._names, now)
        self._losses.note_deleted(await self._log.prune(now - self._keep_days * DAY_US))
