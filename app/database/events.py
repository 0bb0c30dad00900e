"""The log of events for other programs: their positions, and what is read of them."""

from collections.abc import Collection

from sqlalchemy import Connection, and_, bindparam, delete, func, select, text, update

from app.database.deliveries import queue
from app.database.event_tables import EVENT_COLUMNS, LAST_POSITION, event_deliveries, event_endpoints, events
from app.database.transactions import Transactions
from app.database.undelivered import give_up, lock_deliveries
from app.state.deliveries import GivenUp
from app.state.events import LoggedEvent

#: How many get their position, or are deleted, in one transaction.
_BATCH = 1_000

#: Positions are given by one transaction at a time: who sees one sees all before it.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('event positions', 4))")
_PLACE = update(events).where(events.c.id == bindparam("of")).values(position=bindparam("place"))


class EventLog:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def publish(self, endpoints: Collection[str], now: int) -> None:
        """Give positions to what was committed, and queue it for the endpoints.

        `endpoints`: those of this process; those of other replicas are known.
        """
        placed = _BATCH if await self._is_behind() else 0
        while placed == _BATCH:
            placed = await self._transactions.write(lambda connection: _publish(connection, endpoints, now))

    async def read(self, after: int, limit: int) -> tuple[list[LoggedEvent], int]:
        """The events behind this position, in order; and the last position that was given."""
        query = (
            select(*EVENT_COLUMNS).where(events.c.position > after).order_by(events.c.position).limit(limit)
        )

        def work(connection: Connection) -> tuple[list[LoggedEvent], int]:
            found = [LoggedEvent(*row) for row in connection.execute(query)]
            return found, connection.scalar(LAST_POSITION) or 0

        return await self._transactions.read(work)

    async def prune(self, before: int) -> list[GivenUp]:
        """Delete what happened before `before`; the last one stays, since the next counts on from it."""
        lost: list[GivenUp] = []
        while True:
            deleted, undelivered = await self._transactions.write(
                lambda connection: _prune(connection, before)
            )
            lost += undelivered
            if not deleted:
                return lost

    async def _is_behind(self) -> bool:
        waiting = select(events.c.id).where(events.c.position.is_(None)).limit(1)
        return await self._transactions.read(lambda connection: connection.scalar(waiting) is not None)


def _publish(connection: Connection, endpoints: Collection[str], now: int) -> int:
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)
    last = connection.scalar(LAST_POSITION) or 0
    waiting = select(events.c.id, events.c.room_name).where(events.c.position.is_(None))
    found = connection.execute(waiting.order_by(events.c.id).limit(_BATCH)).all()
    if not found:
        return 0
    placed = [(row.id, place, row.room_name) for place, row in enumerate(found, start=last + 1)]
    connection.execute(_PLACE, [{"of": row_id, "place": place} for row_id, place, _ in placed])
    queue(connection, [(place, room_name) for _, place, room_name in placed], endpoints, now)
    return len(placed)


def _prune(connection: Connection, before: int) -> tuple[int, list[GivenUp]]:
    # A replay would queue what is being deleted, and its room would wait for it for ever.
    lock_deliveries(connection)
    last = connection.scalar(LAST_POSITION) or 0
    oldest = (
        select(events.c.position, events.c.at)
        .where(events.c.position < last)
        .order_by(events.c.position)
        .limit(_BATCH)
        .subquery()
    )
    until = connection.scalar(select(func.max(oldest.c.position)).where(oldest.c.at < before))
    if until is None:
        return 0, []
    # By the primary key.
    names = select(event_endpoints.c.name)
    lost = give_up(
        connection, and_(event_deliveries.c.endpoint.in_(names), event_deliveries.c.position <= until)
    )
    return connection.execute(delete(events).where(events.c.position <= until)).rowcount, lost
