"""The tables of events for other programs: the events, the endpoints, and what waits for each of them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    func,
    select,
    text,
)

from app.database.schema import metadata

_HAS_POSITION = text("position IS NOT NULL")
_HAS_NONE = text("position IS NULL")

#: Of a URL without its query; see config.EventEndpoint.
NAME_LENGTH = 512

events = Table(
    "events",
    metadata,
    # Within a room in the order of the commits. Those of other rooms may become visible after higher ones.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("message_id", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("topic", String(32), nullable=False),
    Column("room_name", String(256), nullable=False),
    # As JSON, see state.events.
    Column("data", Text, nullable=False),
    # Given after the commit, without gaps, in an order that does not change any more; null: not yet.
    Column("position", BigInteger),
    Index(
        "ux_events_position",
        "position",
        unique=True,
        sqlite_where=_HAS_POSITION,
        postgresql_where=_HAS_POSITION,
    ),
    Index("ix_events_without_position", "id", sqlite_where=_HAS_NONE, postgresql_where=_HAS_NONE),
)

event_endpoints = Table(
    "event_endpoints",
    metadata,
    Column("name", String(NAME_LENGTH), primary_key=True),
    # By a replica that has it in its settings.
    Column("seen_at", BigInteger, nullable=False),
    # See state.EndpointHealth.
    Column("failures", Integer, nullable=False),
    Column("failing_since", BigInteger),
    Column("due_at", BigInteger),
    Column("last_error", String(64)),
    Column("last_error_at", BigInteger),
    Column("delivered", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
    Column("given_up", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

#: What waits to be delivered; a row is deleted once it is.
event_deliveries = Table(
    "event_deliveries",
    metadata,
    Column("endpoint", String(NAME_LENGTH), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("room_name", String(256), nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    # The process that is sending it, and until when nobody else does.
    Column("leased_by", String(32)),
    Column("leased_until", BigInteger),
    PrimaryKeyConstraint("endpoint", "position"),
    Index("ix_event_deliveries_endpoint_room_name_position", "endpoint", "room_name", "position"),
    Index("ix_event_deliveries_endpoint_due_at", "endpoint", "due_at"),
    sqlite_with_rowid=False,
)

#: What `state.LoggedEvent` is made of, in its order.
EVENT_COLUMNS = (
    events.c.position,
    events.c.message_id,
    events.c.topic,
    events.c.at,
    events.c.room_name,
    events.c.data,
)

#: The last position that was given.
LAST_POSITION = select(func.max(events.c.position)).where(events.c.position.is_not(None))
