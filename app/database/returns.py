"""The counts of returns: their rows for a batch, and what is read of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from app.database.tables import returns
from app.database.transactions import Transactions
from app.lifecycle.days import day_of
from app.lifecycle.returns import DayCount, Return


def return_rows(came: Iterable[Return], now: int) -> Sequence[tuple[Any, ...]]:
    """One row for each key, to be added to what is stored."""
    counts: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for one in came:
        counts[one.agent_name, one.bucket][0 if one.is_kept else 1] += 1
    # In one order: two replicas never deadlock.
    return [(name, day_of(now), bucket, *counts[name, bucket]) for name, bucket in sorted(counts)]


class ReturnCounts:
    """Reads and deletes; every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def since(self, day: int) -> dict[str, list[DayCount]]:
        """The counts of each agent name from this day on."""
        columns = (returns.c.agent_name, returns.c.day, returns.c.bucket, returns.c.kept, returns.c.lost)
        query = select(*columns).where(returns.c.day >= day)

        def work(connection: Connection) -> dict[str, list[DayCount]]:
            counts: defaultdict[str, list[DayCount]] = defaultdict(list)
            for name, of_day, bucket, kept, lost in connection.execute(query):
                counts[name].append(DayCount(day=of_day, bucket=bucket, kept=kept, lost=lost))
            return dict(counts)

        return await self._transactions.read(work)

    async def prune(self, before_day: int) -> None:
        old = delete(returns).where(returns.c.day < before_day)
        await self._transactions.write(lambda connection: connection.execute(old).rowcount)
