"""What is never delivered: counted for its endpoint, and deleted."""

from sqlalchemy import ColumnElement, Connection, delete, func, select, text, update

from app.database.event_tables import event_deliveries, event_endpoints
from app.state.deliveries import GivenUp

#: Two replicas must not both take the first event of a room.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('event deliveries', 4))")


def lock_deliveries(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)


def give_up(connection: Connection, condition: ColumnElement[bool]) -> list[GivenUp]:
    """Delete the deliveries for which this holds, and count them for their endpoints."""
    position, endpoint = event_deliveries.c.position, event_deliveries.c.endpoint
    counted = select(endpoint, func.count(), func.min(position), func.max(position)).where(condition)
    found = [GivenUp(*row) for row in connection.execute(counted.group_by(endpoint))]
    for lost in found:
        number = event_endpoints.c.given_up + lost.number
        connection.execute(
            update(event_endpoints).where(event_endpoints.c.name == lost.endpoint).values(given_up=number)
        )
    if found:
        connection.execute(delete(event_deliveries).where(condition))
    return found
