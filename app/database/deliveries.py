"""The queue of deliveries: what waits for each endpoint, who sends it, and how the endpoints fare."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from app.database.endpoints import is_in_use, note_endpoints, read_health, read_statuses
from app.database.event_tables import EVENT_COLUMNS, event_deliveries, event_endpoints, events
from app.database.transactions import Transactions
from app.database.undelivered import give_up, lock_deliveries
from app.lifecycle import SECOND_US
from app.state.deliveries import (
    OUTAGE_LEAD_US,
    PATIENCE_US,
    Attempt,
    Delivery,
    EndpointHealth,
    EndpointStatus,
    GivenUp,
    retry_wait_us,
)
from app.state.events import LoggedEvent

#: Nobody else sends what a process is sending; longer than a post takes.
LEASE_US = 30 * SECOND_US
#: For a tidying up after a long outage.
_TIDY_TIMEOUT_S = 60.0
#: Positions that are queued again in one transaction.
_REPLAY_BATCH = 1_000

#: For an endpoint of a process that starts.
_AFRESH = {"failures": 0, "failing_since": None, "due_at": None, "disabled_at": None}
_BOUNDS = select(func.min(events.c.position), func.max(events.c.position))
_OLDER = event_deliveries.alias("older")
#: Each room's first one that waits for this endpoint.
_IS_FIRST = ~exists().where(
    _OLDER.c.endpoint == event_deliveries.c.endpoint,
    _OLDER.c.room_name == event_deliveries.c.room_name,
    _OLDER.c.position < event_deliveries.c.position,
)
_AGAIN = (
    update(event_deliveries)
    .where(
        event_deliveries.c.endpoint == bindparam("of"),
        event_deliveries.c.position == bindparam("at_position"),
        event_deliveries.c.leased_by == bindparam("holder"),
    )
    .values(attempts=bindparam("tries"), due_at=bindparam("next_at"), leased_by=None, leased_until=None)
)


class Deliveries:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def begin(self, names: Collection[str], now: int) -> None:
        """Note the endpoints of a process that starts: each gets another chance at once."""

        def work(connection: Connection) -> None:
            lock_deliveries(connection)
            note_endpoints(connection, names, now)
            named = event_endpoints.c.name.in_(names)
            connection.execute(update(event_endpoints).where(named).values(_AFRESH))
            connection.execute(
                update(event_deliveries)
                .where(event_deliveries.c.endpoint.in_(names), event_deliveries.c.attempts > 0)
                .values(attempts=0, due_at=now)
            )
            if not self._transactions.is_shared:
                # Whoever was sending died before this process started.
                _release(connection, event_deliveries.c.leased_by.is_not(None))

        await self._transactions.write(work)

    async def is_due(self, names: Collection[str], now: int) -> bool:
        """Whether there may be something to send now."""
        query = (
            select(event_deliveries.c.position)
            .join(event_endpoints, event_endpoints.c.name == event_deliveries.c.endpoint)
            .where(
                event_deliveries.c.endpoint.in_(names),
                _is_free(now),
                _IS_FIRST,
                event_endpoints.c.disabled_at.is_(None),
                or_(event_endpoints.c.due_at.is_(None), event_endpoints.c.due_at <= now),
            )
            .limit(1)
        )
        return await self._transactions.read(lambda connection: connection.scalar(query) is not None)

    async def exchange(
        self, attempts: Sequence[Attempt], free: Mapping[str, int], now: int, holder: str
    ) -> list[Delivery]:
        """Store what became of deliveries, and take up to so many others for each endpoint."""
        by_endpoint: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            by_endpoint[attempt.endpoint].append(attempt)

        def work(connection: Connection) -> list[Delivery]:
            lock_deliveries(connection)
            for name, own in sorted(by_endpoint.items()):
                _settle(connection, name, own, now, holder)
            return [
                delivery
                for name, number in sorted(free.items())
                for delivery in _take(connection, name, number, now, holder)
            ]

        return await self._transactions.write(work)

    async def release(self, holder: str) -> None:
        """Let others send what this process has not sent."""
        held = event_deliveries.c.leased_by == holder
        await self._transactions.write(lambda connection: _release(connection, held))

    async def tidy(self, names: Collection[str], now: int) -> list[GivenUp]:
        """Note that these endpoints are in use, and give up what was tried for too long."""

        def work(connection: Connection) -> list[GivenUp]:
            lock_deliveries(connection)
            note_endpoints(connection, names, now)
            is_old = event_endpoints.c.seen_at < now - PATIENCE_US
            forgotten = select(event_endpoints.c.name).where(is_old)
            connection.execute(delete(event_deliveries).where(event_deliveries.c.endpoint.in_(forgotten)))
            connection.execute(delete(event_endpoints).where(is_old))
            return _give_up(connection, now)

        return await self._transactions.write(work, timeout_s=_TIDY_TIMEOUT_S)

    async def replay(self, names: Collection[str], after: int, before: int | None, now: int) -> int:
        """Queue events once more for these endpoints; returns the number of deliveries that this adds."""
        first, last = await self._transactions.read(lambda connection: connection.execute(_BOUNDS).one())
        # What is announced from here on is queued anyway.
        end = (last or 0) + 1 if before is None else min(before, (last or 0) + 1)
        count = 0
        # Others commit in between: SQLite has one writer.
        for start in range(max(after + 1, first or 1), end, _REPLAY_BATCH):
            chosen = events.c.position.between(start, min(start + _REPLAY_BATCH, end) - 1)
            work = partial(_queue_again, names=names, chosen=chosen, now=now)
            count += await self._transactions.write(work)
        return count

    async def statuses(self, own: Collection[str], now: int) -> list[EndpointStatus]:
        """The endpoints that this or another replica has in its settings, by name."""
        return await self._transactions.read(lambda connection: read_statuses(connection, own, now))


def queue(connection: Connection, placed: Sequence[tuple[int, str]], own: Collection[str], now: int) -> None:
    """Queue new events, each a position and a room, for every endpoint; `own`: of this process."""
    known = connection.scalars(select(event_endpoints.c.name).where(is_in_use(own, now)))
    rows = [
        _fresh(name, position, room_name, now)
        for name in sorted({*known, *own})
        for position, room_name in placed
    ]
    if rows:
        connection.execute(insert(event_deliveries), rows)


def _fresh(name: str, position: int, room_name: str, now: int) -> dict[str, Any]:
    return {
        "endpoint": name,
        "position": position,
        "room_name": room_name,
        "queued_at": now,
        "attempts": 0,
        "due_at": now,
    }


def _release(connection: Connection, condition: Any) -> None:
    connection.execute(update(event_deliveries).where(condition).values(leased_by=None, leased_until=None))


def _is_free(now: int) -> Any:
    leased_until = event_deliveries.c.leased_until
    return and_(event_deliveries.c.due_at <= now, or_(leased_until.is_(None), leased_until <= now))


def _settle(connection: Connection, name: str, attempts: Sequence[Attempt], now: int, holder: str) -> None:
    former = read_health(connection, name) or EndpointHealth()
    health = former.after(attempts, now)
    connection.execute(update(event_endpoints).where(event_endpoints.c.name == name).values(asdict(health)))
    of_endpoint = event_deliveries.c.endpoint == name
    if delivered := [attempt.position for attempt in attempts if attempt.error is None]:
        connection.execute(
            delete(event_deliveries).where(of_endpoint, event_deliveries.c.position.in_(delivered))
        )
    if failed := {attempt.position: attempt for attempt in attempts if attempt.error is not None}:
        columns = (event_deliveries.c.position, event_deliveries.c.attempts)
        found = connection.execute(
            select(*columns).where(of_endpoint, event_deliveries.c.position.in_(list(failed)))
        ).all()
        again = [
            {
                "of": name,
                "at_position": position,
                "holder": holder,
                "tries": tries + 1,
                "next_at": now
                + max(
                    retry_wait_us(tries + 1, failed[position].jitter), failed[position].retry_after_us or 0
                ),
            }
            for position, tries in found
        ]
        if again:
            connection.execute(_AGAIN, again)
    if former.is_failing and not health.failures:
        _end_outage(connection, name, former.failing_since or now, now)


def _end_outage(connection: Connection, name: str, since: int, now: int) -> None:
    """What has failed in an outage need not wait; what fails alone must not start the next one at once."""
    of_outage = or_(event_deliveries.c.attempts <= 1, event_deliveries.c.queued_at >= since - OUTAGE_LEAD_US)
    connection.execute(
        update(event_deliveries)
        .where(event_deliveries.c.endpoint == name, event_deliveries.c.due_at > now, of_outage)
        .values(due_at=now)
    )


def _take(connection: Connection, name: str, number: int, now: int, holder: str) -> list[Delivery]:
    if number <= 0:
        return []
    health = read_health(connection, name)
    if health is None or not health.is_open(now):
        return []
    of_endpoint = event_deliveries.c.endpoint == name
    if health.is_failing:
        leased = select(event_deliveries.c.position).where(of_endpoint, event_deliveries.c.leased_until > now)
        if connection.scalar(leased.limit(1)) is not None:
            return []
        number = 1
    first = (
        select(*EVENT_COLUMNS)
        .join(event_deliveries, event_deliveries.c.position == events.c.position)
        .where(of_endpoint, _is_free(now), _IS_FIRST)
        .order_by(event_deliveries.c.due_at, event_deliveries.c.position)
        .limit(number)
    )
    taken = [Delivery(name, LoggedEvent(*row)) for row in connection.execute(first)]
    if taken:
        positions = [delivery.event.position for delivery in taken]
        connection.execute(
            update(event_deliveries)
            .where(of_endpoint, event_deliveries.c.position.in_(positions))
            .values(leased_by=holder, leased_until=now + LEASE_US)
        )
    return taken


def _give_up(connection: Connection, now: int) -> list[GivenUp]:
    """What was never tried waits on, as after a long stop of the service, unless its endpoint fails."""
    troubled = select(event_endpoints.c.name).where(
        or_(event_endpoints.c.failures > 0, event_endpoints.c.disabled_at.is_not(None))
    )
    is_over = and_(
        event_deliveries.c.queued_at <= now - PATIENCE_US,
        or_(event_deliveries.c.attempts > 0, event_deliveries.c.endpoint.in_(troubled)),
        or_(event_deliveries.c.leased_until.is_(None), event_deliveries.c.leased_until <= now),
    )
    return give_up(connection, is_over)


def _queue_again(connection: Connection, names: Collection[str], chosen: Any, now: int) -> int:
    lock_deliveries(connection)
    return sum(_queue_missing(connection, name, chosen, now) for name in names)


def _queue_missing(connection: Connection, name: str, chosen: Any, now: int) -> int:
    waits = exists().where(
        event_deliveries.c.endpoint == name, event_deliveries.c.position == events.c.position
    )
    fresh = _fresh(name, 0, "", now)
    values = [
        events.c[column] if column in ("position", "room_name") else bindparam(column, fresh[column])
        for column in fresh
    ]
    missing = select(*values).where(chosen, ~waits)
    return connection.execute(insert(event_deliveries).from_select(list(fresh), missing)).rowcount
