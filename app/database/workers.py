"""Workers and drains in the database: many reports in one statement."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, delete, or_, select, text, update

from app.database.loading import dispatch_of
from app.database.tables import claims, dispatches
from app.database.transactions import Transactions
from app.database.worker_tables import drains, workers
from app.lifecycle import Dispatch, State
from app.state.workers import Drain, DrainOf, Job, Report, Worker

_KEPT = ("id", "first_seen_at", "suspected_number")
_NAMES = [column.name for column in workers.columns if column.name != "suspected_number"]
_VALUES = ", ".join(f":{name}" for name in _NAMES)
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in _KEPT)
#: A report that was overtaken by a later one of its worker changes nothing.
_PUT = text(
    f"INSERT INTO workers ({', '.join(_NAMES)}) VALUES ({_VALUES})"  # noqa: S608 - our names
    f" ON CONFLICT (id) DO UPDATE SET {_CHANGES} WHERE excluded.number > workers.number"
)
_PUT_DRAIN = text(
    "INSERT INTO drains (kind, name, requested_at) VALUES (:kind, :name, :requested_at)"
    # Those without a deployment are drained that run at that moment.
    " ON CONFLICT (kind, name) DO UPDATE SET requested_at = excluded.requested_at"
)


class WorkersTable:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def put(self, reports: Iterable[Report], now: int) -> None:
        # In one order: two replicas never deadlock.
        rows = [_row(report, now) for report in sorted(reports, key=lambda report: report.id)]
        await self._transactions.write(lambda connection: connection.execute(_PUT, rows).close())

    async def all(self) -> tuple[list[Worker], list[Drain]]:
        """Those that have left or are gone are there for a while too."""
        return await self._transactions.read(lambda one: (read_workers(one), _read_drains(one)))

    async def suspect(self, worker: Worker) -> bool:
        """Note that the report after this one is late; False if another process has noted it, or it came."""
        is_new = or_(workers.c.suspected_number.is_(None), workers.c.suspected_number < worker.number)
        noted = (
            update(workers)
            .where(workers.c.id == worker.id, workers.c.number == worker.number, is_new)
            .values(suspected_number=worker.number)
        )
        return await self._transactions.write(lambda one: bool(one.execute(noted).rowcount))

    async def dispatches(self, dispatch_ids: Collection[str]) -> list[Dispatch]:
        """Those of them that have not ended."""
        query = select(dispatches).where(
            dispatches.c.dispatch_id.in_(dispatch_ids), dispatches.c.ended_at.is_(None)
        )
        return await self._transactions.read(lambda one: list(map(dispatch_of, one.execute(query))))

    async def recent_dispatches(self, agent_names: Collection[str], since: int) -> list[Dispatch]:
        """Those of the agents with people in that were created since."""
        query = select(dispatches).where(
            dispatches.c.agent_name.in_(agent_names),
            dispatches.c.created_at >= since,
            dispatches.c.state == State.ACTIVE,
        )
        return await self._transactions.read(lambda one: list(map(dispatch_of, one.execute(query))))

    async def demand(self) -> list[tuple[str, str | None]]:
        """The agent name of each room that waits for a place; with its dispatch, if it waits for an agent."""
        waits = or_(
            dispatches.c.state.in_((State.CREATING, State.STARTING)),
            and_(dispatches.c.state == State.UNAVAILABLE, dispatches.c.participant_count > 0),
        )
        rows = select(dispatches.c.agent_name, dispatches.c.dispatch_id).where(
            dispatches.c.ended_at.is_(None), waits
        )
        calls = select(claims.c.agent_name, claims.c.room_name).where(claims.c.granted_at.is_(None))

        def work(connection: Connection) -> list[tuple[str, str | None]]:
            waiting = connection.execute(calls.distinct())
            return [*map(tuple, connection.execute(rows)), *((one.agent_name, None) for one in waiting)]

        return await self._transactions.read(work)

    async def order(self, drain: Drain) -> None:
        """Store a drain; one that stands already keeps its time."""
        fields = {"kind": drain.of, "name": drain.name, "requested_at": drain.requested_at}
        await self._transactions.write(lambda connection: connection.execute(_PUT_DRAIN, fields).close())

    async def cancel(self, of: DrainOf, name: str) -> bool:
        """False if there was none."""
        ended = delete(drains).where(drains.c.kind == of, drains.c.name == name)
        return await self._transactions.write(lambda one: bool(one.execute(ended).rowcount))

    async def prune(self, before: int) -> None:
        """Delete the workers that have not reported since, and the drains of those."""
        old = workers.c.seen_at < before
        orphaned = and_(
            drains.c.kind == DrainOf.WORKER,
            drains.c.requested_at < before,
            drains.c.name.not_in(select(workers.c.id)),
        )

        def work(connection: Connection) -> None:
            connection.execute(delete(workers).where(old))
            connection.execute(delete(drains).where(orphaned))

        await self._transactions.write(work)


def read_workers(connection: Connection) -> list[Worker]:
    return [_worker_of(row) for row in connection.execute(select(workers).order_by(workers.c.id))]


def _read_drains(connection: Connection) -> list[Drain]:
    query = select(drains).order_by(drains.c.kind, drains.c.name)
    return [
        Drain(of=DrainOf(row.kind), name=row.name, requested_at=row.requested_at)
        for row in connection.execute(query)
    ]


def _row(report: Report, now: int) -> dict[str, object]:
    return {
        "id": report.id,
        "livekit_id": report.livekit_id,
        "number": report.number,
        "agent_names": _json(report.agent_names),
        "deployment": report.deployment,
        "version": report.version,
        "helper": report.helper,
        "slots": report.slots,
        "jobs": _json(report.jobs),
        "active": report.active,
        "warm": report.warm,
        "load": report.load,
        "accepting": report.accepting,
        "draining": report.draining,
        "first_seen_at": now,
        "seen_at": now,
        "left_at": now if report.leaving else None,
    }


def _worker_of(row: Row[Any]) -> Worker:
    return Worker(
        id=row.id,
        livekit_id=row.livekit_id,
        number=row.number,
        agent_names=msgspec.json.decode(row.agent_names, type=tuple[str, ...]),
        deployment=row.deployment,
        version=row.version,
        helper=row.helper,
        slots=row.slots,
        jobs=msgspec.json.decode(row.jobs, type=tuple[Job, ...]),
        active=row.active,
        warm=row.warm,
        load=row.load,
        accepting=row.accepting,
        draining=row.draining,
        first_seen_at=row.first_seen_at,
        seen_at=row.seen_at,
        left_at=row.left_at,
    )


def _json(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
