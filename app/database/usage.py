"""The usage ledger: the rows of a batch, and what is read of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, func, select, text

from app.database.tables import dispatches, usage
from app.database.transactions import Transactions
from app.database.worker_tables import warm_agents
from app.lifecycle import State, Visitors
from app.lifecycle.days import by_day, day_of
from app.lifecycle.usage import TimeKind, accrued, kind_in
from app.lifecycle.warm import WarmAgent
from app.state.changes import Transition
from app.state.usage import Usage, UsageBy, UsageReport

#: For sums over the days of very many dispatches.
_TIMEOUT_S = 60.0

_KEYS: dict[UsageBy, Any] = {
    UsageBy.AGENT: usage.c.agent_name,
    UsageBy.DAY: usage.c.day,
    UsageBy.ROOM: usage.c.room_name,
}
_IS_OPEN = dispatches.c.ended_at.is_(None)
_RUNNING = [
    dispatches.c[name]
    for name in (
        "id",
        "agent_name",
        "room_name",
        "state",
        "visitors",
        "participant_count",
        "agent_joined_at",
        "accounted_at",
    )
]
#: In the order of the table.
_TIMES = {kind: usage.c[f"{kind}_us"] for kind in TimeKind}
#: Of a warm agent: it is in no room of anybody's, and no dispatch.
_NO_ROOM = ""
_OF_DISPATCH = usage.c.room_name != _NO_ROOM


def usage_rows(transitions: Iterable[Transition]) -> Iterator[tuple[Any, ...]]:
    """What these changes add to the ledger, in the order of the table's columns."""
    for transition in transitions:
        before, after = transition.before, transition.after
        if before is None or after.accounted_at is None:
            continue
        kind, length_us = accrued(before, after)
        end_at = after.accounted_at
        parts = dict(by_day(end_at - length_us, end_at)) if kind else {}
        reason = after.end_reason if after.state is State.ENDED else None
        if reason:
            parts.setdefault(day_of(end_at), 0)
        for day, part_us in parts.items():
            times_us = (part_us if one is kind else 0 for one in _TIMES)
            is_last = day == day_of(end_at)
            yield (day, after.id, after.agent_name, after.room_name, *times_us, reason if is_last else None)


def warm_usage_rows(agent: WarmAgent, until: int) -> Iterator[tuple[Any, ...]]:
    """What a warm agent that has waited adds to the ledger, in the order of the table's columns."""
    for day, part_us in by_day(agent.created_at, until):
        times_us = (part_us if one is TimeKind.WARM else 0 for one in _TIMES)
        yield (day, agent.id, agent.agent_name, _NO_ROOM, *times_us, None)


class UsageTable:
    """Reads and deletes; every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def read(self, by: UsageBy, days: range, now: int, *, limit: int) -> UsageReport:
        """The usage of these days, and of what still runs until `now`; `limit`: of stored keys."""

        def work(connection: Connection) -> UsageReport:
            if connection.dialect.name == "postgresql":
                # One snapshot, as in SQLite: what ends between two statements would count twice.
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            report = _stored(connection, by, days, limit)
            _add_running(connection, report, by, days, now)
            _add_waiting(connection, report, by, days, now)
            return report

        return await self._transactions.read(work, timeout_s=_TIMEOUT_S)

    async def idle_us(self, day: int) -> dict[str, int]:
        """How long the agents of each name were alone after a visit, from this day on, without what runs."""
        sums = select(usage.c.agent_name, func.sum(usage.c.idle_us)).where(usage.c.day >= day)

        def work(connection: Connection) -> dict[str, int]:
            found = connection.execute(sums.group_by(usage.c.agent_name))
            return {name: int(sum_us) for name, sum_us in found}

        return await self._transactions.read(work)

    async def prune(self, before_day: int) -> int:
        """Delete the days before this one; returns the number of rows."""
        old = delete(usage).where(usage.c.day < before_day)
        return await self._transactions.write(
            lambda connection: connection.execute(old).rowcount, timeout_s=_TIMEOUT_S
        )


def _stored(connection: Connection, by: UsageBy, days: range, limit: int) -> UsageReport:
    key, row_id, end_reason, in_days = _KEYS[by], usage.c.dispatch_row_id, usage.c.end_reason, _within(days)
    count = func.count(case((_OF_DISPATCH, row_id)).distinct())
    if by is UsageBy.ROOM:
        in_days = and_(in_days, _OF_DISPATCH)
    sums = select(key, count, *map(func.sum, _TIMES.values()))
    report = UsageReport(items={}, dispatches=connection.scalar(select(count).where(in_days)) or 0)
    for name, dispatch_count, *times_us in connection.execute(sums.where(in_days).group_by(key).limit(limit)):
        item = report.items[name] = Usage(dispatches=dispatch_count)
        item.times_us.update(dict(zip(_TIMES, map(int, times_us), strict=True)))
    reasons = select(key, end_reason, func.count()).where(in_days, end_reason.is_not(None))
    for name, reason, ended in connection.execute(reasons.group_by(key, end_reason)):
        if name in report.items:
            report.items[name].end_reasons[reason] = ended
    return report


def _add_running(connection: Connection, report: UsageReport, by: UsageBy, days: range, now: int) -> None:
    """Add the time of open dispatches that is not in the ledger yet."""
    stored = select(_KEYS[by], usage.c.dispatch_row_id).join(
        dispatches, dispatches.c.id == usage.c.dispatch_row_id
    )
    counted = {(key, row_id) for key, row_id in connection.execute(stored.where(_IS_OPEN, _within(days)))}
    counted_rows = {row_id for _, row_id in counted}
    for row, kind, day, part_us in _running(connection, now):
        if day in days:
            key = {UsageBy.AGENT: row.agent_name, UsageBy.DAY: day, UsageBy.ROOM: row.room_name}[by]
            item = report.items.setdefault(key, Usage())
            item.times_us[kind] += part_us
            item.dispatches += (key, row.id) not in counted
            report.dispatches += row.id not in counted_rows
            counted.add((key, row.id))
            counted_rows.add(row.id)


def _running(connection: Connection, now: int) -> Iterator[tuple[Row[Any], TimeKind, int, int]]:
    """The open dispatches with what their time since the last entry is spent on, by day."""
    open_ones = select(*_RUNNING).where(_IS_OPEN, dispatches.c.accounted_at.is_not(None))
    for row in connection.execute(open_ones):
        has_agent = row.agent_joined_at is not None
        kind = kind_in(State(row.state), Visitors(row.visitors), row.participant_count, has_agent=has_agent)
        if kind:
            yield from ((row, kind, day, part_us) for day, part_us in by_day(row.accounted_at, now))


def _add_waiting(connection: Connection, report: UsageReport, by: UsageBy, days: range, now: int) -> None:
    """Add the time of warm agents that is not in the ledger yet; it belongs to no room."""
    if by is UsageBy.ROOM:
        return
    not_over = (warm_agents.c.ended_at.is_(None), warm_agents.c.claimed_at.is_(None))
    waiting = select(warm_agents.c.agent_name, warm_agents.c.created_at).where(*not_over)
    for agent_name, created_at in connection.execute(waiting):
        for day, part_us in by_day(created_at, now):
            if day in days:
                key = agent_name if by is UsageBy.AGENT else day
                report.items.setdefault(key, Usage()).times_us[TimeKind.WARM] += part_us


def _within(days: range) -> Any:
    return and_(usage.c.day >= days.start, usage.c.day < days.stop)
