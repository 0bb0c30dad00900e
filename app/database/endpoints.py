"""The endpoints of events: which are in use, and how each of them fares."""

from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, insert, or_, select, update

from app.database.event_tables import LAST_POSITION, event_deliveries, event_endpoints
from app.lifecycle import SECOND_US
from app.state.deliveries import EndpointHealth, EndpointStatus

#: One that no replica has in its settings any more gets nothing new after this time.
_SEEN_WITHIN_US = 300 * SECOND_US

_HEALTH = tuple(event_endpoints.c[entry.name] for entry in fields(EndpointHealth))


def is_in_use(own: Collection[str], now: int) -> ColumnElement[bool]:
    """Whether a replica has the endpoint in its settings: any replica may queue events for it.

    `own`: those that this one has, also when it could not say so for a while.
    """
    return or_(event_endpoints.c.seen_at > now - _SEEN_WITHIN_US, event_endpoints.c.name.in_(own))


def note_endpoints(connection: Connection, names: Collection[str], now: int) -> None:
    """Note that a replica has these endpoints in its settings."""
    known = set(connection.scalars(select(event_endpoints.c.name)))
    connection.execute(update(event_endpoints).where(event_endpoints.c.name.in_(names)).values(seen_at=now))
    new = [{"name": name, "seen_at": now, **asdict(EndpointHealth())} for name in names if name not in known]
    if new:
        connection.execute(insert(event_endpoints), new)


def read_health(connection: Connection, name: str) -> EndpointHealth | None:
    query = select(*_HEALTH).where(event_endpoints.c.name == name)
    row = connection.execute(query).mappings().first()
    return EndpointHealth(**row) if row else None


def read_statuses(connection: Connection, own: Collection[str], now: int) -> list[EndpointStatus]:
    """The endpoints in use, by name."""
    tried_at = case((event_deliveries.c.attempts > 0, event_deliveries.c.due_at))
    waiting = (
        select(
            event_deliveries.c.endpoint,
            func.count().label("number"),
            func.min(event_deliveries.c.position).label("first"),
            func.min(event_deliveries.c.queued_at).label("since"),
            func.min(tried_at).label("again_at"),
        )
        .group_by(event_deliveries.c.endpoint)
        .subquery()
    )
    columns = (waiting.c.number, waiting.c.first, waiting.c.since, waiting.c.again_at)
    query = (
        select(event_endpoints, *columns, LAST_POSITION.scalar_subquery().label("last"))
        .outerjoin(waiting, waiting.c.endpoint == event_endpoints.c.name)
        .where(is_in_use(own, now))
        .order_by(event_endpoints.c.name)
    )
    return [_status(row) for row in connection.execute(query)]


def _status(row: Any) -> EndpointStatus:
    health = EndpointHealth(**{column.name: getattr(row, column.name) for column in _HEALTH})
    tries = [at for at in (row.again_at, health.due_at) if at is not None]
    return EndpointStatus(
        name=row.name,
        health=health,
        waiting=row.number or 0,
        waiting_since=row.since,
        done_position=row.first - 1 if row.number else row.last or 0,
        next_try_at=max(tries) if tries and row.number and health.disabled_at is None else None,
    )
